"""Arrays that are computed once and read back in a moment: one .npy file each, checked by digests.

Beside NAME.npy lies NAME.json: the digest of the array, a digest of each block of the file, and the state of
file (inode, size, times) when all of them were last verified. A file whose state has changed is verified
whole; of a file as it was left, a sample of blocks is verified at every load.
"""

import hashlib
import json
import logging
import os
import random
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metabench.data.locks import acquire
from metabench.errors import DataError
from metabench.folders import cache_folder

log = logging.getLogger("metabench.data")

BLOCK_BYTES = 1 << 18
SAMPLED = 12  # blocks verified of a file in its verified state, or a fiftieth of them if that is less

Fill = Callable[[np.ndarray[Any, Any]], None]
Form = tuple[tuple[int, ...], np.dtype[Any]]
State = tuple[int, int, int, int]
"""Inode, bytes, time of content and time of change of a file, in nanoseconds."""


@dataclass(frozen=True)
class Record:
    """What NAME.json says of NAME.npy."""

    digest: str  # of the array, see `digest`
    blocks: list[str]  # BLAKE2b of each block of the file
    verified: State


def cached(
    name: str, shape: Sequence[int], fill: Fill, *, dtype: Any = np.uint8, sha256: str | None = None
) -> np.ndarray[Any, Any]:
    """Return the array of this name as a memory map, computed by `fill` if the cache does not have it.

    name: the file's name without suffix; it must change with whatever changes the array; fill: writes
    every value of the array it is given, which may be a map of a file larger than memory; sha256: the
    known `digest` of the array: DataError if `fill` gives another.

    Two processes that ask at once compute it once. A damaged file is computed again. If the cache folder
    cannot be written, the array is computed in memory each time, with a warning; a full disk is an error.
    """
    path = cache_folder() / f"{name}.npy"
    form = (tuple(shape), np.dtype(dtype))
    array = _read(path, form, sha256)
    if array is not None:
        return array
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = acquire(path.with_suffix(".lock"), f"computes {path.name}")
    except OSError as error:
        log.warning("%s cannot be written (%s); set METABENCH_CACHE to a folder that can", path, error)
        values = np.empty(*form)
        fill(values)
        _require_digest(name, digest(values), sha256)
        return values
    with lock:
        array = _read(path, form, sha256)
        if array is None:
            _write(path, form, fill, sha256)
            array = _read(path, form, sha256)
    if array is None:
        raise DataError(f"{path} was written and cannot be read back; check that disk")
    return array


def digest(array: np.ndarray[Any, Any]) -> str:
    """Return the SHA-256 of an array's type, shape and values, as 64 hexadecimal digits."""
    sha = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def fingerprint(*parts: Any) -> str:
    """Return 16 hexadecimal digits that name these plain values; for the names of cached arrays."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(path: Path, form: Form, sha256: str | None) -> np.ndarray[Any, Any] | None:
    """Return the stored array, or None with a warning that says why it must be computed again."""
    try:
        array: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        record = _read_record(path)
        fault = _fault(path, array, record, form, sha256)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError, OSError, TypeError, KeyError) as error:
        fault = str(error)
    if fault:
        log.warning("%s is damaged (%s) and is computed again", path, fault)
        return None
    return array


def _fault(
    path: Path, array: np.ndarray[Any, Any], record: Record, form: Form, sha256: str | None
) -> str | None:
    if (array.shape, array.dtype) != form:
        return f"it must hold {form[1]} {form[0]}, got {array.dtype} {array.shape}"
    if sha256 not in (None, record.digest):
        return f"it must have the digest {sha256}, got {record.digest}"
    state, count = _state(path), len(record.blocks)
    unchanged = state == record.verified
    chosen = random.Random().sample(range(count), min(SAMPLED, -(-count // 50)))
    numbers = chosen if unchanged else range(count)
    if count != -(-state[1] // BLOCK_BYTES) or not _blocks_match(path, record.blocks, numbers):
        return "its content differs from its digests"
    if not unchanged:
        with suppress(OSError):  # a cache that can only be read is verified whole each time
            _write_record(path, Record(record.digest, record.blocks, state))
    return None


def _blocks_match(path: Path, blocks: Sequence[str], numbers: Iterable[int]) -> bool:
    with path.open("rb") as file:
        for number in numbers:
            file.seek(number * BLOCK_BYTES)
            if _block_digest(file.read(BLOCK_BYTES)) != blocks[number]:
                return False
    return True


def _write(path: Path, form: Form, fill: Fill, sha256: str | None) -> None:
    """Write the array and its record; the caller holds the lock. A failure leaves nothing behind."""
    for leftover in path.parent.glob(f".{path.stem}-*.npy"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".npy")
    os.close(handle)
    try:
        shape, dtype = form
        values = np.lib.format.open_memmap(scratch, "w+", dtype, shape)
        _reserve(scratch)
        fill(values)
        array_digest = digest(values)
        _require_digest(path.stem, array_digest, sha256)
        values.flush()
        del values  # Windows renames no mapped file
        os.replace(scratch, path)
        _write_record(path, Record(array_digest, _block_digests(path), _state(path)))
    except OSError as error:
        size = int(np.prod(form[0], dtype=np.int64)) * form[1].itemsize
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}): it needs {size / 2**20:.1f} MiB; free "
            "that much, or set METABENCH_CACHE to a folder on another disk"
        ) from error
    finally:
        Path(scratch).unlink(missing_ok=True)


def _reserve(scratch: str) -> None:
    """Reserve the blocks of a sparse file, since a write to a map ends the process if the disk is full."""
    with open(scratch, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
        start = len(file.read(BLOCK_BYTES).rstrip(b"\0"))  # the header
        file.seek(start)
        while start < size:
            start += file.write(bytes(min(BLOCK_BYTES, size - start)))


def _require_digest(name: str, actual: str, known: str | None) -> None:
    if known not in (None, actual):
        raise DataError(f"{name} must have the digest {known}, got {actual}")


def _block_digests(path: Path) -> list[str]:
    with path.open("rb") as file:
        blocks = iter(lambda: file.read(BLOCK_BYTES), b"")
        return [_block_digest(block) for block in blocks]


def _block_digest(block: bytes) -> str:
    return hashlib.blake2b(block, digest_size=8).hexdigest()  # twice as fast as SHA-256 on most processors


def _state(path: Path) -> State:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _read_record(path: Path) -> Record:
    document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    state: State = tuple(int(value) for value in document["verified"])  # type: ignore[assignment]
    return Record(str(document["digest"]), [str(block) for block in document["blocks"]], state)


def _write_record(path: Path, record: Record) -> None:
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".json")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(record), file)
        os.replace(scratch, path.with_suffix(".json"))
    finally:
        Path(scratch).unlink(missing_ok=True)
