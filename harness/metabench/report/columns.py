"""Columns that tables share."""

from __future__ import annotations

from collections.abc import Sequence

from metabench.records.cell import task_text
from metabench.records.section import Column, Record
from metabench.results.rows import unit_of_work
from metabench.text import ABSENT, score_text, significant

MIB = 2**20
GIB = 2**30


def text(key: str, header: str, *, quiet: bool = False, right: bool = False) -> Column:
    """A column that shows a value as it is."""

    def show(record: Record) -> str:
        value = record.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return ABSENT if value is None or value == "" else str(value)

    return Column(header, show, right=right, quiet=quiet, key=key)


def number(key: str, header: str, *, scale: float = 1.0, digits: int = 3, quiet: bool = False) -> Column:
    """A column that shows a figure with so many significant digits."""

    def show(record: Record) -> str:
        value = record.get(key)
        return ABSENT if value is None else significant(value * scale, digits)

    return Column(header, show, right=True, quiet=quiet, key=key)


def mean_and_deviation(key: str, by: str, header: str, *, scale: float = 1.0) -> Column:
    """A column that shows a figure ± another one, its standard deviation, as far as that is there."""

    def show(record: Record) -> str:
        value, around = record.get(key), record.get(by)
        if value is None:
            return ABSENT
        told = significant(value * scale)
        return told if around is None else f"{told} ± {significant(around * scale, 2)}"

    return Column(header, show, right=True, key=key)


def speed() -> Column:
    """Tasks a second, or the labelled examples of supervised training."""

    def show(record: Record) -> str:
        if record["tasks_per_second"] is None:
            return ABSENT
        unit = unit_of_work(record)
        return significant(record["tasks_per_second"]) + (f" {unit}/s" if unit != "tasks" else "")

    return Column("tasks/s", show, right=True, key="tasks_per_second")


def score(record: Record) -> str:
    """Return the mean score with half its interval."""
    return score_text(record["mean"], record["half_width"], record["unit"])


def standing_notes(cells: Sequence[Record]) -> list[str]:
    """How many of these cells are transductive, unstable or budget-limited; the lines say which."""
    if not cells:
        return []
    marks = {"transductive": "Transductive", "budget_limited": "Budget-limited", "unstable": "Unstable times"}
    notes = []
    for name, title in marks.items():
        count = sum(bool(cell[name]) for cell in cells)
        which = "none" if not count else "all" if count == len(cells) else f"{count} of {len(cells)} rows"
        notes.append(f"{title}: {which}.")
    return [" ".join(notes)]


PROTOCOL = ("suite", "version", "dataset", "ways", "shots", "metric")
"""What rows of a table share where they can be ranked together."""

SUITE = Column("suite", lambda r: f"{r['suite']} v{r['version']}", quiet=True)
STEPS = Column(
    "steps", lambda r: str(r["steps"]) if r["train"] else ABSENT, right=True, quiet=True, key="steps"
)
METHOD_COLUMNS: Sequence[Column] = (
    SUITE,
    text("dataset", "data set", quiet=True),
    Column("task", lambda r: task_text(r["ways"], r["shots"]), quiet=True),
    text("method", "method"),
    text("network", "network", quiet=True),
)
"""What every table says first of a cell."""

AXIS_COLUMNS: Sequence[Column] = (
    *METHOD_COLUMNS,
    Column(
        "backend", lambda r: f"{r['backend']}" + (f" × {r['ranks']}" if r["ranks"] > 1 else ""), quiet=True
    ),
    text("train", "meta-train", quiet=True),
    text("plugin", "plugin", quiet=True),
)
COUNT_COLUMNS: Sequence[Column] = (
    text("seeds", "seeds", quiet=True, right=True),
    text("tasks", "test tasks", quiet=True, right=True),
)
