"""Arrays that are made once and read back in a moment: one .npy file each, checked by a digest."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from metabench.data.folders import cache_folder
from metabench.errors import DataError

log = logging.getLogger("metabench.data")


def cached(
    name: str, make: Callable[[], np.ndarray[Any, Any]], sha256: str | None = None
) -> np.ndarray[Any, Any]:
    """The array of this name as a memory map, made by `make` where the cache has none.

    name: the file's name without suffix, in which everything that changes the array stands; sha256: its
    `digest`, where it is known: DataError where `make` gives another one. Two processes that ask at once
    make it once. A damaged file is made again. Where the cache's folder cannot be written, the array is
    made each time and a notice says so.
    """
    path = cache_folder() / f"{name}.npy"
    found = _read(path, sha256)
    if found is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock")).acquire()
    except OSError as error:
        log.warning("%s cannot be written (%s); set METABENCH_CACHE to a folder that can", path, error)
        return _checked(make(), sha256, name)
    with lock:
        found = _read(path, sha256)
        if found is not None:
            return found
        made = _checked(make(), sha256, name)
        try:
            _write(path, made)
        except OSError as error:
            log.warning("%s cannot be written (%s); it will be made again next time", path, error)
            return made
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def digest(array: np.ndarray[Any, Any]) -> str:
    """SHA-256 of an array's type, shape and values, as 64 hexadecimal digits."""
    told = f"{array.dtype.str} {array.shape} ".encode()
    sha = hashlib.sha256(told)
    sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def fingerprint(*parts: Any) -> str:
    """Sixteen hexadecimal digits that name these plain values; for the names of cached arrays."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(path: Path, sha256: str | None) -> np.ndarray[Any, Any] | None:
    try:
        found: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError, OSError) as error:
        log.warning("%s is damaged (%s) and is made again", path, error)
        return None
    if sha256 and digest(found) != sha256:
        log.warning("%s does not have the digest it should and is made again", path)
        return None
    return found


def _checked(made: np.ndarray[Any, Any], sha256: str | None, name: str) -> np.ndarray[Any, Any]:
    if sha256 and digest(made) != sha256:
        raise DataError(f"{name} was made with the digest {digest(made)}, but is known to have {sha256}")
    return made


def _write(path: Path, array: np.ndarray[Any, Any]) -> None:
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".npy")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, array, allow_pickle=False)
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
