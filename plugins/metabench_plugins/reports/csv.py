"""The report as CSV: one file with every result and one per table, figures unrounded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metabench import Report, ReportContent
from metabench.report import reference_text

LEFT_OUT = ("positions",)


@dataclass(frozen=True, kw_only=True)
class Csv(Report):
    """Raw figures as CSV: `results.csv` with a line per result, and one file per table of the report."""

    name: ClassVar[str] = "csv"

    def write(self, content: ReportContent, folder: Path) -> list[Path]:
        """Writes results.csv, and <table>.csv for every table that is shown and has a line."""
        paths = [write_csv(content.rows, folder / "results.csv")]
        paths += [write_csv(s.records, folder / f"{s.name}.csv") for s in content.sections() if s]
        return paths


def write_csv(records: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Writes records as CSV; text that a spreadsheet would run as a formula is made plain."""
    import pandas as pd  # here, so that `metabench list` does not wait for it

    frame = pd.DataFrame([_told(record) for record in records])
    kept = frame.drop(columns=[name for name in LEFT_OUT if name in frame])
    kept.map(_inert).to_csv(path, index=False, lineterminator="\n")
    return path


def _told(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record with its published counterparts (value, source, verdict) in words."""
    if "references" not in record:
        return record
    return {**record, "references": reference_text(record) if record["references"] else ""}


def _inert(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula, made plain by a leading apostrophe."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
