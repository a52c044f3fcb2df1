"""Files of results and jobs: written whole or not at all, read with errors that name the file."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metabench.errors import StoreError
from metabench.records.document import DocumentError, read_document
from metabench.records.result import Result


def read_result(path: Path) -> Result:
    """Return the result in this file; raises StoreError naming the file and what is wrong with it."""
    try:
        return Result.from_json(read_document(path))
    except DocumentError as error:
        raise StoreError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise StoreError(f"{path}: no result: {error}") from error


STATES = "states"
"""The folder of the learned states that are kept, beside the results of a suite."""

STATE_SUFFIX = ".safetensors"


def state_path(folder: Path, digest: str) -> Path:
    """Return where the learned state of this digest lies beside the results in `folder`."""
    return folder / STATES / f"{digest}{STATE_SUFFIX}"


def write_json(path: Path, content: Any, before: Callable[[], object] = lambda: None) -> None:
    """Write JSON to `path` by atomic rename: a reader sees the old file or the whole new one.

    before: called when the new file is complete on disk, right before it takes its place. Raises
    StoreError where it cannot be written.
    """
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    write_bytes(path, text.encode(), before)


def write_text(path: Path, text: str) -> None:
    """Write text to `path` by atomic rename, which replaces a link there instead of what it leads to."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes, before: Callable[[], object] = lambda: None) -> None:
    """Write `path` by atomic rename, with its folder; `before` and the errors are those of `write_json`."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        try:
            with open(part, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            before()
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block, which writes `path`, into a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = "the disk is full; free some space and run the same command again"
        else:
            what = error.strerror or str(error)
        raise StoreError(f"{path}: cannot be written: {what}. Earlier results are intact.") from error
