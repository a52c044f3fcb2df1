"""Loggers with one fault each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from metabench import Cell, LoggedRun, Logger, Result, setting


@dataclass(frozen=True, kw_only=True)
class FaultyLogger(Logger):
    """A logger with a fault."""

    name: ClassVar[str] = "faulty"
    fault: str = setting("", "which")

    def open(self, cell: Cell, folder: Path) -> LoggedRun:
        if self.fault == "stray":
            (folder / "curves.json").write_text("{}")
        if self.fault == "open":
            raise OSError("no server")
        return FaultyRun(self.fault, cell)


@dataclass
class FaultyRun(LoggedRun):
    fault: str
    cell: Cell

    @property
    def link(self) -> str:
        return {"absolute": f"/tmp/{self.cell.id}", "shared": "logs/all.csv"}.get(self.fault, "")

    def curves(self, step: int, values: Mapping[str, float]) -> None:
        if self.fault == "curves":
            raise OSError("the server is gone")

    def close(self, result: Result | None) -> None:
        if self.fault == "close" and result is None:
            raise AttributeError("'NoneType' object has no attribute 'status'")
