"""Locks between processes that want to make or fetch the same file."""

import logging
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

NOTICE_SECONDS = 2.0  # of waiting before a warning names what is waited for

log = logging.getLogger("metabench.data")


def acquire(path: Path, work: str) -> AbstractContextManager[Any]:
    """Hold the lock file at `path` until the `with` block ends; warn while another process holds it.

    work: what a holder does, such as "fetches omniglot/a.zip". Raises OSError where the lock
    file cannot be written.
    """
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=NOTICE_SECONDS)
    except Timeout:
        log.warning("waiting for another process, which %s and holds %s", work, path)
        return lock.acquire()
