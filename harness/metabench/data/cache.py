"""Arrays that are made once and read back in a moment: one .npy file each, checked by a digest."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metabench.data.locks import acquire
from metabench.errors import DataError
from metabench.folders import cache_folder

log = logging.getLogger("metabench.data")


Fill = Callable[[np.ndarray[Any, Any]], None]


def cached(
    name: str, shape: Sequence[int], fill: Fill, *, dtype: Any = np.uint8, sha256: str | None = None
) -> np.ndarray[Any, Any]:
    """The array of this name as a memory map, made by `fill` where the cache has none.

    name: the file's name without suffix, in which everything that changes the array stands; fill: writes
    every value of the array it is given, which may be a map of a file larger than memory; sha256: the
    array's `digest`, where it is known: DataError where `fill` gives another one.

    Two processes that ask at once make it once. A damaged file is made again. Where the cache's folder
    cannot be written, the array is made in memory each time and a notice says so.
    """
    path = cache_folder() / f"{name}.npy"
    wanted = (tuple(shape), np.dtype(dtype))
    found = _read(path, wanted, sha256)
    if found is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = acquire(path.with_suffix(".lock"), f"makes {path.name}")
    except OSError as error:
        log.warning("%s cannot be written (%s); set METABENCH_CACHE to a folder that can", path, error)
        made = np.empty(*wanted)
        fill(made)
        return _checked(made, sha256, name)
    with lock:
        found = _read(path, wanted, sha256)
        if found is None:
            _write(path, wanted, fill, sha256)
            found = _read(path, wanted, None)
    if found is None:
        raise DataError(f"{path} was written and cannot be read back; check that disk")
    return found


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


Wanted = tuple[tuple[int, ...], np.dtype[Any]]


def _read(path: Path, wanted: Wanted, sha256: str | None) -> np.ndarray[Any, Any] | None:
    try:
        found: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError, OSError) as error:
        log.warning("%s is damaged (%s) and is made again", path, error)
        return None
    if (found.shape, found.dtype) != wanted or (sha256 and digest(found) != sha256):
        log.warning("%s does not hold what it should and is made again", path)
        return None
    return found


def _checked(made: np.ndarray[Any, Any], sha256: str | None, name: str) -> np.ndarray[Any, Any]:
    if sha256 and digest(made) != sha256:
        raise DataError(f"{name} was made with the digest {digest(made)}, but is known to have {sha256}")
    return made


def _write(path: Path, wanted: Wanted, fill: Fill, sha256: str | None) -> None:
    for left in path.parent.glob(f".{path.stem}-*.npy"):  # by a process that was killed: we hold the lock
        left.unlink(missing_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".npy")
    os.close(handle)
    try:
        shape, dtype = wanted
        made = np.lib.format.open_memmap(scratch, "w+", dtype, shape)
        fill(made)
        _checked(made, sha256, path.stem)
        made.flush()
        del made  # Windows renames no mapped file
        os.replace(scratch, path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error}); set METABENCH_CACHE to another folder"
        ) from error
    finally:
        Path(scratch).unlink(missing_ok=True)
