"""Curves as a CSV file for each cell, which pandas and a spreadsheet read while the cell runs."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from metabench import Cell, LoggedRun, Logger, Result
from metabench.records import final_scores


@dataclass(frozen=True, kw_only=True)
class Csv(Logger):
    """A file `logs/csv/CELL.csv` beside the results, with a row per figure: step, name, value."""

    name: ClassVar[str] = "csv"

    def open(self, cell: Cell, folder: Path) -> LoggedRun:
        """Begin the file anew."""
        return CsvRun(folder, f"logs/csv/{cell.id}.csv")


class CsvRun(LoggedRun):
    """The file of one cell; every row is on the disk once it is logged."""

    def __init__(self, folder: Path, link: str) -> None:
        self._link, self.path, self.step = link, folder / link, 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("step,name,value\n", encoding="utf-8")

    @property
    def link(self) -> str:
        """The path of the file from the folder of the results."""
        return self._link

    def curves(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row for each value."""
        self.step = step
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [step, name, value] for name, value in values.items()
            )

    def close(self, result: Result | None) -> None:
        """Add the final scores, after the last step."""
        if result is not None:
            self.curves(self.step, final_scores(result))
