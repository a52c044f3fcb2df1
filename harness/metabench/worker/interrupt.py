"""What a worker still does when it is asked to end (SIGTERM): one last call, then it ends by that signal."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable


def before_sigterm(call: Callable[[], None]) -> None:
    """From now on, call this in a thread of its own when SIGTERM arrives, then end by that signal.

    The signal's own handler would wait until the main thread is back from C code, which a rank whose peers
    are gone never is. Does nothing outside POSIX.
    """
    if os.name != "posix":
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGTERM, _ignore)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_forget)
    threading.Thread(target=_wait, args=(reader, call), daemon=True, name="before-sigterm").start()


def _wait(reader: int, call: Callable[[], None]) -> None:
    while signal.SIGTERM not in os.read(reader, 1):  # every signal with a handler in Python writes its number
        pass
    try:
        call()
    except Exception:
        traceback.print_exc()
    if "RANK" in os.environ:  # a rank that hangs shows where
        faulthandler.dump_traceback(all_threads=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).signal(int(signal.SIGTERM), None)  # SIG_DFL; Python sets it in the main thread only
        os.kill(os.getpid(), signal.SIGTERM)
    os._exit(128 + signal.SIGTERM)


def _ignore(*_: object) -> None:
    """Handle the signal by its number in the pipe alone."""


def _forget() -> None:
    """In a forked child: a signal that it gets is its own, not the worker's."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
