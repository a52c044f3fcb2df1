"""The memory of this process: its peak, freed blocks that it keeps, and which errors say that it ran out."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import psutil
import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_NEVER = -1

_OUT_OF_MEMORY = (
    "can't allocate memory",
    "std::bad_alloc",
    "not enough memory",
    "Cannot allocate memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",  # cuBLAS, cuSOLVER, cuDNN 8
    "ALLOCATION_FAILED",  # cuDNN 9
)
"""Parts of the messages of errors that mean so."""
_ONEDNN_FAILED = "could not create a primitive"
"""The message of oneDNN when its own allocation fails; it has other causes too."""


def keep_freed_memory() -> None:
    """Tell glibc to keep every freed block for this process instead of returning it to the system.

    A step frees what the next one allocates again, and fresh pages are faulted in one by one: at the sizes
    of activations that is up to half of a step's time. Two switches do it: no block is mapped by itself (a
    mapped block goes back when it is freed, and the threshold for mapping cannot be set above 32 MiB, which
    the activations of 32 test tasks exceed), and the heap is never trimmed. Whoever times learners calls it
    first, so that it holds for all of them alike. It raises what is resident, not the peak of what is in use.
    Does nothing without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _NEVER)


def peak_resident_bytes() -> int:
    """Return the largest amount of memory that this process has had resident."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts the parent's own peak into ru_maxrss of a process that it starts
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return int(getattr(psutil.Process().memory_info(), "peak_wset"))  # noqa: B009 - unknown to mypy elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if psutil.MACOS else peak * 1024  # bytes on macOS, KiB on other systems


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on the host or on the device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if not isinstance(error, (RuntimeError, OSError)):
        return False
    words = (*_OUT_OF_MEMORY, _ONEDNN_FAILED) if _memory_is_limited() else _OUT_OF_MEMORY
    return any(part in str(error) for part in words)


def _memory_is_limited() -> bool:
    """Whether this process runs under a limit of memory of its own."""
    try:
        import resource
    except ImportError:  # Windows
        return False
    return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY
