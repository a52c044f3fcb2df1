"""Live progress of a run: a moving line per running cell in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from metabench import Cell, hookimpl

PLAIN_SECONDS = 10.0  # between two lines about the training of one cell


@hookimpl
def metabench_progress(cell: Cell, event: Mapping[str, Any]) -> None:
    """Shows one event."""
    if event["kind"] == "start":
        _shown[cell.id] = _Live(cell, event) if _console().is_terminal else _Plain(cell, event)
    elif cell.id in _shown:
        _shown[cell.id].show(event)
        if event["kind"] == "end":
            del _shown[cell.id]


_shown: dict[str, _Plain] = {}  # the cells that run now; emptied as they end


def _console() -> Any:
    from rich.console import Console  # imported late: most commands show no progress

    return Console(stderr=True, highlight=False, soft_wrap=True)


def title(cell: Cell) -> str:
    """A cell in a few words: `maml conv4 glyphs 5w1s cpu seed 0`."""
    ranks = f"×{cell.ranks}" if cell.ranks > 1 else ""
    head = [cell.label or cell.algorithm.name, str(cell.network or ""), cell.dataset.name, cell.test.short]
    return " ".join(part for part in [*head, cell.backend.name, ranks, f"seed {cell.seed}"] if part)


class _Plain:
    """Lines for a log file: one when a cell starts, few while it runs, one when it ends."""

    def __init__(self, cell: Cell, start: Mapping[str, Any]) -> None:
        self.console = _console()
        self.title = f"[{start['number']}/{start['of']}] {title(cell)}"
        self.remote = start.get("remote", False)
        self.validation = ""
        self.spoke = time.monotonic()
        self.open()

    def open(self) -> None:
        """Says that the cell starts."""
        self.print(f"{self.title}: {'is sent' if self.remote else 'starts'}")

    def show(self, event: Mapping[str, Any]) -> None:
        """Shows one event of the cell."""
        if event["kind"] == "validation":
            self.validation = f", validation {event['mean']:.4g} (step {event['step']})"
        if event["kind"] == "end":
            self.print(f"{self.title}: {ending(event)}")
        elif event["kind"] == "train" and time.monotonic() - self.spoke >= PLAIN_SECONDS:
            self.spoke = time.monotonic()
            self.print(f"{self.title}: {training(event)}{self.validation}")

    def print(self, text: str) -> None:
        """Prints one line, as it is."""
        self.console.print(text, markup=False)


class _Live(_Plain):
    """A line that moves while the cell runs, and stays as a summary."""

    def open(self) -> None:
        """Starts the moving line."""
        state = "waits for its machine" if self.remote else "sets up"
        _board.move(self.title, _safe(f"{self.title}: {state}"))

    def show(self, event: Mapping[str, Any]) -> None:
        """Moves the line, or ends it."""
        if event["kind"] == "end":
            _board.end(self.title)
            super().show(event)
            return
        if event["kind"] == "validation":
            super().show(event)
        text = self._state(event)
        if text:
            _board.move(self.title, _safe(f"{self.title}: {text}"))

    def _state(self, event: Mapping[str, Any]) -> str:
        """What the cell does, in words."""
        match event["kind"]:
            case "setup":
                return "sets up"
            case "train":
                return training(event) + self.validation
            case "evaluate":
                return f"evaluates, {event['done']} of {event['tasks']} tasks"
        return ""

    def print(self, text: str) -> None:
        """Prints one line above those that move."""
        _board.console.print(text, markup=False)


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
        """Shows this text in the line of this key."""
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
        """Takes the line away."""
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

    return escape(text)


def training(event: Mapping[str, Any]) -> str:
    """A training event in words."""
    return (
        f"step {event['step']}/{event['steps']}, loss {event['loss']:.4g}, "
        f"{event['tasks_per_second']:.0f} tasks/s, {event['seconds_left']:.0f} s left"
    )


def ending(event: Mapping[str, Any]) -> str:
    """How a cell ended, in words."""
    took = f" in {event['seconds']:.1f} s" if event["seconds"] else ""
    if "mean" in event and event["status"] == "ok":
        return f"{event['metric']} {event['mean']:.4g}{took}"
    return f"{event['status'].upper()}{took}: {event['reason']}"
