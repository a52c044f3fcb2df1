"""The report as CSV: one file with every result and one per table, figures unrounded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metabench import Report, ReportContent
from metabench.report import further_figures, one_line, reference_text

LEFT_OUT = "positions"
"""A field that means nothing outside of the running program."""

FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""What a formula of a spreadsheet begins with."""


@dataclass(frozen=True, kw_only=True)
class Csv(Report):
    """Raw figures as CSV: `results.csv` with a line per result, and one file per table of the report."""

    name: ClassVar[str] = "csv"

    def write(self, content: ReportContent, folder: Path) -> list[Path]:
        """Write results.csv, and <table>.csv for every table that is shown and has a line."""
        tables = [(table.name, table.records) for table in content.sections() if table]
        named: list[tuple[str, Sequence[Mapping[str, Any]]]] = [("results", content.rows), *tables]
        return [write_csv(records, folder / f"{name}.csv") for name, records in named]


def write_csv(records: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write records as CSV; text that a spreadsheet would run as a formula is made plain."""
    import pandas as pd  # here, so that `metabench list` does not wait for it

    frame = pd.DataFrame([_flat(record) for record in records])
    frame.columns = frame.columns.map(_inert)
    frame.map(_inert).to_csv(path, index=False, lineterminator="\n")
    return path


def _flat(record: Any) -> Mapping[str, Any]:
    """Return the record with its published counterparts (value, source, verdict) in words."""
    flat = {name: value for name, value in record.items() if name != LEFT_OUT}
    if "further" in flat:
        flat = {**flat, **further_figures(record)}
        del flat["further"]
    if "references" in flat:
        flat["references"] = reference_text(record) if record["references"] else ""
        del flat["verdicts"]
    return flat


def _inert(value: Any) -> Any:
    """Return text on one line, with an apostrophe before what a spreadsheet would run as a formula."""
    if isinstance(value, (list, dict)):
        value = str(value)
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if text.startswith(FORMULAS) else text
