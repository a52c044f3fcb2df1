"""A worker and the process that started it: how long ago that was, and that both end together. No torch."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

import psutil

WATCH_SECONDS = 0.5
PR_SET_PDEATHSIG = 1


def seconds_since_launch(launched: float | None) -> float:
    """Return how long ago this process was launched; launched: by the runner's monotonic clock, if it told.

    A process that the runner did not start here (of a batch system, on a second machine) has its own age.
    """
    if launched is not None and "METABENCH_PARENT" in os.environ:
        return time.monotonic() - launched
    return time.time() - psutil.Process().create_time()


def end_with_parent() -> None:
    """End this process when its launcher or the supervisor of its job is gone.

    The launcher is the parent process: torchrun, or the supervisor itself. METABENCH_PARENT is the process
    number of the supervisor; a batch system leaves it unset. Under a supervisor on Linux the kernel ends this
    process with its launcher, also in a call that holds the interpreter's lock; elsewhere a thread looks.
    """
    launcher = os.getppid()
    parent = os.environ.get("METABENCH_PARENT")
    supervisor = int(parent or launcher)
    if parent and sys.platform == "linux":  # elsewhere a thread may be the launcher, and end before it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def watch() -> None:
        while True:
            if os.getppid() != launcher:
                os._exit(1)
            if supervisor != launcher and not psutil.pid_exists(supervisor):
                os.kill(launcher, signal.SIGKILL)
                os._exit(1)
            time.sleep(WATCH_SECONDS)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
