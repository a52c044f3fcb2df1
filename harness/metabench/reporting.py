"""Writes reports: hands a table to report plugins and gathers the files that they made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metabench.contracts import Report
from metabench.plugins import Registry
from metabench.settings import make
from metabench.table import Table

ALWAYS = ("markdown", "csv", "json")
"""The reports that `run` leaves beside its results."""


def write_reports(
    table: Table,
    folder: Path,
    formats: Sequence[str],
    registry: Registry,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Path]:
    """Writes each report into `folder` and returns the files; raises UnknownComponent for an absent one."""
    reports: list[Report] = [
        make(registry.find("report", name).cls, (settings or {}).get(name)) for name in formats
    ]
    folder.mkdir(parents=True, exist_ok=True)
    return [path for report in reports for path in report.write(table, folder)]
