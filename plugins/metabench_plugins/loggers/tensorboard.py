"""Curves, settings and scores for TensorBoard: `tensorboard --logdir results/local`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from metabench import Cell, LoggedRun, Logger, Result, setting
from metabench.records import final_scores, logged_settings
from metabench_plugins.loggers._extras import missing

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary


@dataclass(frozen=True, kw_only=True)
class Tensorboard(Logger):
    """Event files for TensorBoard, settings as its hyperparameters; needs the extra `tensorboard`."""

    name: ClassVar[str] = "tensorboard"
    flush_seconds: float = setting(10.0, "the longest that a figure waits to be written", above=0)

    @classmethod
    def unavailable(cls) -> str | None:
        """Return why it cannot be used here."""
        return missing("tensorboard", "tensorboard")

    def open(self, cell: Cell, folder: Path) -> LoggedRun:
        """Begin an event file in `logs/tensorboard/CELL`."""
        return TensorboardRun(cell, folder, f"logs/tensorboard/{cell.id}", self.flush_seconds)


class TensorboardRun(LoggedRun):
    """The event file of one cell."""

    def __init__(self, cell: Cell, folder: Path, link: str, flush_seconds: float) -> None:
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._link, self.step = link, 0
        self.writer = EventFileWriter(str(folder / link), flush_secs=flush_seconds)
        self._add(0, hparams_pb(logged_settings(cell), trial_id=cell.id))

    @property
    def link(self) -> str:
        """The folder of the event file, from the folder of the results."""
        return self._link

    def curves(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of one step."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self.step = step
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(step, Summary(value=scalars))

    def close(self, result: Result | None) -> None:
        """Write the final scores and close the file."""
        if result is not None:
            self.curves(self.step, final_scores(result))
        self.writer.close()

    def _add(self, step: int, summary: Summary) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self.writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
