"""The threads of a process, and the cores that it is bound to. No torch here."""

import os
from collections.abc import Sequence


def thread_environment(threads: int) -> dict[str, str]:
    """Return the variables that give every numerical library this many threads."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def affinity_problem(affinity: Sequence[int]) -> str | None:
    """Return why a process cannot be bound to these cores, or None."""
    if not affinity:
        return None
    if not hasattr(os, "sched_setaffinity"):
        return "this system cannot bind a process to cores: leave 'affinity' empty"
    absent = sorted(set(affinity) - os.sched_getaffinity(0))
    if absent:
        usable = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        return f"no core {', '.join(map(str, absent))} for this process; it may use {usable}"
    return None


def bind(affinity: Sequence[int]) -> None:
    """Bind this process, and the threads that it will start, to these cores; with none, do nothing."""
    if affinity:
        os.sched_setaffinity(0, affinity)
