"""Where data sets and caches lie on this machine."""

import os
from pathlib import Path

import platformdirs


def data_folder() -> Path:
    """The folder of downloaded data: METABENCH_DATA, else the platform's data folder of this user."""
    told = os.environ.get("METABENCH_DATA")
    return Path(told).expanduser() if told else Path(platformdirs.user_data_dir("metabench")) / "data"


def cache_folder() -> Path:
    """The folder of what can be made again: METABENCH_CACHE, else the platform's cache of this user."""
    told = os.environ.get("METABENCH_CACHE")
    return Path(told).expanduser() if told else Path(platformdirs.user_cache_dir("metabench"))
