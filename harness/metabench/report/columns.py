"""Columns that tables share, and what they say of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from metabench.records.axes import unit_of_work
from metabench.records.row import CellFields, Shared
from metabench.records.section import Column
from metabench.records.summary import Labels, Summary
from metabench.text import ABSENT, half_text, score_text, significant

Record = Mapping[str, Any]

MIB = 2**20
GIB = 2**30


def text(
    key: str, header: str, *, quiet: bool = False, right: bool = False, optional: bool = False
) -> Column[Record]:
    """Return a column that shows a value as it is; optional: a line may lack it."""

    def show(record: Record) -> str:
        value = record.get(key) if optional else record[key]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return ABSENT if value is None or value == "" else str(value)

    return Column(header, show, right=right, quiet=quiet, key=key)


def number(
    key: str,
    header: str,
    *,
    scale: float = 1.0,
    digits: int = 3,
    quiet: bool = False,
    optional: bool = False,
) -> Column[Record]:
    """Return a column that shows a figure with `digits` significant digits; optional: a line may lack it."""

    def show(record: Record) -> str:
        value = record.get(key) if optional else record[key]
        return ABSENT if value is None else significant(value * scale, digits)

    return Column(header, show, right=True, quiet=quiet, key=key)


def mean_and_deviation(key: str, deviation: str, header: str, *, scale: float = 1.0) -> Column[Record]:
    """Return a column that shows a figure ± its standard deviation, as far as that is known."""

    def show(record: Record) -> str:
        value, around = record[key], record[deviation]
        if value is None:
            return ABSENT
        shown = significant(value * scale)
        return shown if around is None else f"{shown} ± {significant(around * scale, 2)}"

    return Column(header, show, right=True, key=key)


def speed(summary: Summary) -> str:
    """Return tasks a second, or the labelled examples of supervised training."""
    if summary["tasks_per_second"] is None:
        return ABSENT
    unit = unit_of_work(summary["train"])
    return significant(summary["tasks_per_second"]) + (f" {unit}/s" if unit != "tasks" else "")


def score(summary: Summary) -> str:
    """Return the mean score with half its interval."""
    return score_text(summary["mean"], summary["half_width"], summary["unit"])


def new_classes(summary: Summary) -> str:
    """Return half the interval that holds for new classes."""
    half = summary["new_half_width"]
    return ABSENT if half is None else f"± {half_text(half, summary['unit'])}"


def standing_notes(lines: Sequence[Labels]) -> list[str]:
    """Return how many of these lines are transductive, budget-limited or unstable; the lines say which."""
    if not lines:
        return []
    counts = {
        "Transductive": sum(line["transductive"] for line in lines),
        "Budget-limited": sum(line["budget_limited"] for line in lines),
        "Unstable times": sum(line["unstable"] for line in lines),
    }
    return [" ".join(f"{title}: {_how_many(count, len(lines))}." for title, count in counts.items())]


def _how_many(count: int, of: int) -> str:
    return "none" if not count else "all" if count == of else f"{count} of {of} rows"


def task(line: CellFields) -> str:
    """Return the test protocol in words: "5-way 1-shot"."""
    return line["task"]


def protocol(line: Shared) -> tuple[object, ...]:
    """Return what lines of a table share where they can be ranked together."""
    return (
        line["suite"], line["version"], line["dataset"], line["ways"], line["shots"], line["task"],
        line["metric"],
    )  # fmt: skip


class SuiteFields(TypedDict):
    """What names a suite."""

    suite: str
    version: int


def _suite(line: SuiteFields) -> str:
    return f"{line['suite']} v{line['version']}"


ENDS = {"seconds": "time", "target": "target", "patience": "patience", "images": "images"}
"""What ended training before its steps were taken, in words."""


def _steps(line: Summary) -> str:
    """Return the steps that training took, and where they are fewer than the budget, what ended it."""
    if not line["train"]:
        return ABSENT
    taken = list(dict.fromkeys(line["steps_taken"]))
    if not taken or taken == [line["steps"]]:
        return str(line["steps"])
    ends = ", ".join(ENDS[end] for end in line["ended_by"] if end in ENDS)
    return f"{'–'.join(map(str, taken))} of {line['steps']}" + (f", ended by {ends}" if ends else "")


def _backend(line: CellFields) -> str:
    return line["backend"] + (f" × {line['ranks']}" if line["ranks"] > 1 else "")


SUITE: Column[SuiteFields] = Column("suite", _suite, quiet=True)
DATASET = text("dataset", "data set", quiet=True)
METHOD = (text("method", "method"), text("network", "network", quiet=True))
SPEED = Column("tasks/s", speed, right=True, key="tasks_per_second")
NEW_CLASSES: Column[Summary] = Column("new classes", new_classes, right=True, key="new_half_width")
STEPS: Column[Summary] = Column("steps", _steps, right=True, quiet=True, key="steps")
TUNING_TRIALS = text("tuning_trials", "tuning trials", quiet=True, right=True)
METHOD_COLUMNS: Sequence[Column[CellFields]] = (
    SUITE,
    DATASET,
    Column("task", task, quiet=True),
    *METHOD,
)
"""What every table says first of a line."""

AXIS_COLUMNS: Sequence[Column[CellFields]] = (
    *METHOD_COLUMNS,
    Column("backend", _backend, quiet=True),
    text("train", "meta-train", quiet=True),
    text("plugin", "plugin", quiet=True),
)
COUNT_COLUMNS: Sequence[Column[Record]] = (
    text("seeds", "seeds", quiet=True, right=True),
    text("tasks", "test tasks", quiet=True, right=True),
)
