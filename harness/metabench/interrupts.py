"""Tells an interrupt of the user's from a KeyboardInterrupt that a plugin's code raises by itself."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def noticed_interrupts() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether the user has interrupted the block, by Ctrl-C or SIGTERM.

    The handlers that are installed still answer the signal. Outside of the main thread no signal arrives.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    arrived: list[int] = []
    handlers = {number: signal.getsignal(number) for number in SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        handler = handlers[signal.Signals(number)]
        assert callable(handler)
        handler(number, frame)

    replaced = [number for number, handler in handlers.items() if callable(handler)]
    for number in replaced:
        signal.signal(number, handle)
    try:
        yield lambda: bool(arrived)
    finally:
        for number in replaced:
            signal.signal(number, handlers[number])
