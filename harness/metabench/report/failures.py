"""The table of what was not measured, and why."""

from __future__ import annotations

from metabench.records.cell import Status
from metabench.records.row import Row
from metabench.records.section import Column, Section
from metabench.report.columns import SUITE, text
from metabench.report.summary import Summaries
from metabench.text import ABSENT, brief


def failures(source: Summaries) -> Section[Row]:
    """Return every result that is not ok: status, whether it is expected, reason and last line."""
    rows = [row for row in source.results.rows if row["status"] != Status.OK]
    columns: list[Column[Row]] = [
        SUITE,
        text("cell", "cell"),
        Column("status", _status, key="status"),
        Column("reason", _reason, key="reason"),
        text("machine", "machine", quiet=True),
        Column("last line", _last_line, quiet=True),
    ]
    return Section("failures", "Not measured", rows, columns)


def _status(row: Row) -> str:
    expected = " (expected)" if row["status"] in row["expected"] else ""
    return f"{row['status']}{expected}"


def _reason(row: Row) -> str:
    return brief(row["reason"]) or ABSENT


def _last_line(row: Row) -> str:
    return brief(row["log_tail"][-1]) if row["log_tail"] else ABSENT
