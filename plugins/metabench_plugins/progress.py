"""Live progress of a run: a moving line per running cell in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any

from metabench import Cell, hookimpl
from metabench.records import (
    CheckpointEvent,
    EndEvent,
    EvaluateEvent,
    Event,
    ResumeEvent,
    SetupEvent,
    StartEvent,
    Status,
    TrainEvent,
    ValidationEvent,
)

PLAIN_SECONDS = 10.0  # between two lines about the training of one cell


@hookimpl
def metabench_progress(cell: Cell, event: Event) -> None:
    """Shows one event."""
    if isinstance(event, StartEvent):
        _displays[cell.id] = _Live(cell, event) if _console().is_terminal else _Plain(cell, event)
    elif cell.id in _displays:
        _displays[cell.id].show(event)
        if isinstance(event, EndEvent):
            del _displays[cell.id]


_displays: dict[str, _Plain] = {}  # of the cells that run now; emptied as they end


def _console() -> Any:
    from rich.console import Console  # imported late: most commands show no progress

    return Console(stderr=True, highlight=False, soft_wrap=True)


def title(cell: Cell) -> str:
    """Return a cell in a few words: `maml conv4 glyphs 5w1s cpu seed 0`."""
    ranks = f"×{cell.ranks}" if cell.ranks > 1 else ""
    head = [cell.label or cell.algorithm.name, str(cell.network or ""), cell.data_text, cell.test.short]
    return " ".join(part for part in [*head, cell.backend.name, ranks, f"seed {cell.seed}"] if part)


class _Plain:
    """Lines for a log file: one when a cell starts, few while it runs, one when it ends."""

    def __init__(self, cell: Cell, start: StartEvent) -> None:
        self.console = _console()
        apart = f" ({start.apart})" if start.apart else ""
        self.title = f"[{start.number}/{start.of}] {title(cell)}{apart}"
        self.remote = start.remote
        self.validation = ""
        self.last_line = time.monotonic()
        self.open()

    def open(self) -> None:
        """Print that the cell starts."""
        self.print(f"{self.title}: {'is sent' if self.remote else 'starts'}")

    def show(self, event: Event) -> None:
        """Show one event of the cell."""
        match event:
            case ResumeEvent():
                self.print(f"{self.title}: {resuming(event)}")
            case CheckpointEvent():
                self.print(f"{self.title}: goes on without a checkpoint: {event.reason}")
            case ValidationEvent():
                self.validation = f", validation {event.mean:.4g} (step {event.step})"
            case EndEvent():
                self.print(f"{self.title}: {ending(event)}")
            case TrainEvent() if time.monotonic() - self.last_line >= PLAIN_SECONDS:
                self.last_line = time.monotonic()
                self.print(f"{self.title}: {training(event)}{self.validation}")

    def print(self, text: str) -> None:
        """Print one line, as it is."""
        self.console.print(_plain(text), markup=False)


class _Live(_Plain):
    """A line that moves while the cell runs, and stays as a summary."""

    def open(self) -> None:
        """Start the moving line."""
        state = "waits for its machine" if self.remote else "sets up"
        _board.move(self.title, _safe(f"{self.title}: {state}"))

    def show(self, event: Event) -> None:
        """Move the line, or end it."""
        if isinstance(event, EndEvent):
            _board.end(self.title)
            super().show(event)
            return
        if isinstance(event, (ValidationEvent, ResumeEvent, CheckpointEvent)):
            super().show(event)
        text = self._state(event)
        if text:
            _board.move(self.title, _safe(f"{self.title}: {text}"))

    def _state(self, event: Event) -> str:
        """What the cell does, in words."""
        match event:
            case SetupEvent():
                return "sets up"
            case TrainEvent():
                return training(event) + self.validation
            case EvaluateEvent():
                return f"evaluates, {event.done} of {event.tasks} tasks"
        return ""

    def print(self, text: str) -> None:
        """Print one line above those that move."""
        _board.console.print(_plain(text), markup=False)


class _Board:
    """The moving lines of all cells that run now, at the foot of the terminal."""

    def __init__(self) -> None:
        self.lines: dict[str, Any] = {}
        self.live: Any = None

    @property
    def console(self) -> Any:
        """Where lines that stay are printed."""
        return self.live.console if self.live else _console()

    def move(self, key: str, text: str) -> None:
        """Show this text in the line of this key."""
        from rich.live import Live
        from rich.spinner import Spinner

        if key in self.lines:
            self.lines[key].update(text=text)
            return
        self.lines[key] = Spinner("dots", text=text)
        if self.live is None:
            self.live = Live(console=_console(), transient=True)
            self.live.start()
        self._refresh()

    def end(self, key: str) -> None:
        """Take the line away."""
        del self.lines[key]
        if self.lines:
            self._refresh()
        else:
            self.live.stop()
            self.live = None

    def _refresh(self) -> None:
        from rich.console import Group

        self.live.update(Group(*self.lines.values()))


_board = _Board()


def _safe(text: str) -> str:
    from rich.markup import escape

    return escape(_plain(text))


def _plain(text: str) -> str:
    if text.isprintable():
        return text
    from metabench.report import printable  # imported late: it loads numpy

    return printable(text)


def training(event: TrainEvent) -> str:
    """Return a training event in words."""
    return (
        f"step {event.step}/{event.steps}, loss {event.loss:.4g}, "
        f"{event.tasks_per_second:.0f} tasks/s, {event.seconds_left:.0f} s left"
    )


def resuming(event: ResumeEvent) -> str:
    """Return how a cell goes on after an interruption, in words."""
    return f"starts anew: {event.reason}" if event.reason else f"goes on after step {event.step}"


def ending(event: EndEvent) -> str:
    """Return how a cell ended, in words."""
    duration = f" in {event.seconds:.1f} s" if event.seconds else ""
    if event.mean is not None and event.status is Status.OK:
        return f"{event.metric} {event.mean:.4g}{duration}"
    return f"{event.status.upper()}{duration}: {event.reason}"
