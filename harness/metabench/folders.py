"""Where data sets and caches lie on this machine, and what the bytes of a file are."""

import hashlib
import os
from pathlib import Path

import platformdirs


def data_folder() -> Path:
    """Return the folder of downloaded data: METABENCH_DATA, or this user's data folder of the platform."""
    chosen = os.environ.get("METABENCH_DATA")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("metabench")) / "data"


def cache_folder() -> Path:
    """Return the folder of what can be recomputed: METABENCH_CACHE, or this user's cache of the platform."""
    chosen = os.environ.get("METABENCH_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("metabench"))


def file_digest(path: Path, kind: str = "sha256") -> str:
    """Return the digest of a file's bytes in hexadecimal; kind: a name that `hashlib.new` knows."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
