"""Memory between steps: a step frees what the next one asks for again, so the process keeps it."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_NEVER = 2**31 - 1
_LARGEST = 32 * 2**20  # bytes; glibc takes no more


def keep_freed_memory() -> None:
    """Tells glibc to keep freed blocks of up to 32 MiB for this process instead of handing them back.

    Fresh pages are faulted in one by one: at the sizes of activations that is a tenth to a fifth of a
    meta-step's time. Whoever times learners calls it first, so that it holds for all of them alike. It
    raises what is resident, not the peak of what is in use. Does nothing without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST)
    mallopt(_M_TRIM_THRESHOLD, _NEVER)
