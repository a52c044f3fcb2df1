"""The loggers of a run: each is given the curves of every cell while it trains, and then its scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from metabench.contracts import LoggedRun, Logger
from metabench.errors import MetabenchError, PluginError
from metabench.plugin_calls import plugin_call
from metabench.plugins import Registry
from metabench.records.cell import Cell, Spec
from metabench.records.logged import Curves, curves_of_event, curves_of_training
from metabench.records.progress import Event, StartEvent
from metabench.records.result import Result
from metabench.text import printable


@dataclass
class _OpenCell:
    """A cell that runs: its open run in each logger by its name.

    steps: the last that was logged of each curve.
    """

    runs: dict[str, LoggedRun] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)


class Loggers:
    """The loggers that were asked for; one that raises is named once, and left out from then on.

    folder: of the suite's results; warn: takes what a person should know.
    """

    def __init__(
        self,
        registry: Registry,
        chosen: Sequence[Spec],
        folder: Path,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.folder, self.warn = folder, warn
        self.loggers: dict[str, Logger] = {spec.name: registry.make("logger", spec) for spec in chosen}
        self.cells: dict[str, _OpenCell] = {}

    def observe(self, cell: Cell, event: Event) -> None:
        """Log an event of a cell: its start opens a run of it in every logger."""
        if isinstance(event, StartEvent):
            self._open(cell)
        curves = curves_of_event(cell, event)
        if curves is not None and cell.id in self.cells:
            self._log(self.cells[cell.id], *curves)

    def links(self, cell: Cell) -> dict[str, str]:
        """Return where the runs of a cell are, by logger."""
        return dict(self.cells[cell.id].links) if cell.id in self.cells else {}

    def close(self, cell: Cell, result: Result | None) -> None:
        """Log how a cell ended, after the part of its curves that no event had."""
        open_cell = self.cells.pop(cell.id, None)
        if open_cell is None:
            return
        if result is not None and result.training is not None:
            for step, curves in curves_of_training(cell, result.training):
                missed = {name: y for name, y in curves.items() if step > open_cell.steps.get(name, -1)}
                if missed:
                    self._log(open_cell, step, missed)
        for name, run in open_cell.runs.items():
            with self._guarded(name, "close"):
                run.close(result)

    def _open(self, cell: Cell) -> None:
        open_cell = self.cells[cell.id] = _OpenCell()
        for name, logger in list(self.loggers.items()):
            with self._guarded(name, "open"):
                run = logger.open(cell, self.folder)
                if not isinstance(run, LoggedRun):
                    raise PluginError(f"open must give a metabench.LoggedRun, got {type(run).__name__}")
                open_cell.runs[name] = run
                if run.link:
                    open_cell.links[name] = printable(str(run.link))

    def _log(self, open_cell: _OpenCell, step: int, curves: Curves) -> None:
        open_cell.steps.update(dict.fromkeys(curves, step))
        for name, run in list(open_cell.runs.items()):
            with self._guarded(name, "curves"):
                run.curves(step, curves)

    @contextmanager
    def _guarded(self, name: str, method: str) -> Iterator[None]:
        """Leave a logger out once it raises, and pass it over where it was left out."""
        try:
            with plugin_call(f"logger {name!r}: {method}"):
                yield
        except MetabenchError as error:
            if self.loggers.pop(name, None) is not None:
                self.warn(f"{error}; the run goes on without this logger")
            for open_cell in self.cells.values():
                open_cell.runs.pop(name, None)
