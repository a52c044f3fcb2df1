"""A section of a report: a table of raw figures, how each column is shown, and what must be said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from metabench.records.cell import task_text
from metabench.results.rows import unit_of_work
from metabench.text import ABSENT, significant

if TYPE_CHECKING:
    import pandas as pd

Record = Mapping[str, Any]
EMPTY = "None of these results belongs in this table."


@dataclass(frozen=True)
class Column:
    """A column as it is shown: its header and the text of one record; `right`: set flush right.

    quiet: a column that is dropped, and stated in the caption, where all records show the same text;
    key: the figure that lines are sorted by, the text that is shown where this is empty.
    """

    header: str
    show: Callable[[Record], str]
    right: bool = False
    quiet: bool = False
    key: str = ""


@dataclass(frozen=True)
class Section:
    """One table of a report.

    records: the raw figures, one mapping per line; columns: how they are shown; notes: what stands beneath.
    """

    name: str
    title: str
    records: Sequence[Record]
    columns: Sequence[Column]
    notes: Sequence[str] = field(default_factory=tuple)

    def __bool__(self) -> bool:
        return len(self.records) > 0

    @property
    def frame(self) -> pd.DataFrame:
        """The raw figures as a pandas DataFrame, one row per line."""
        import pandas as pd  # takes a third of a second, which a table on the terminal does not wait for

        return pd.DataFrame(list(self.records))

    def shown(self) -> tuple[list[Column], list[list[str]], list[str]]:
        """The columns that are kept, the text of every line, and the notes, told columns included."""
        texts = [[column.show(record) for record in self.records] for column in self.columns]
        kept, told = [], []
        for column, text in zip(self.columns, texts, strict=True):
            if column.quiet and len(set(text)) <= 1:
                if text and text[0] not in ("", ABSENT):
                    told.append(f"{column.header}: {text[0]}")
            else:
                kept.append((column, text))
        lines = [list(line) for line in zip(*(text for _, text in kept), strict=True)] if kept else []
        notes = [*(["; ".join(told) + "."] if told else []), *self.notes]
        if not self.records:
            notes = [EMPTY]
        return [column for column, _ in kept], lines, notes

    def ordered(self, by: str, descending: bool = False) -> Section:
        """The same section, its lines sorted by a column's header or a figure's name; absent ones last."""
        value = self._values(by)
        have = [record for record in self.records if value(record) is not None]
        lack = [record for record in self.records if value(record) is None]
        numbers = all(isinstance(value(record), (int, float)) for record in have)
        have.sort(key=lambda r: value(r) if numbers else str(value(r)), reverse=descending)
        return replace(self, records=[*have, *lack])

    def sortable(self) -> set[str]:
        """What `ordered` sorts by: the headers of the columns and the names of the figures."""
        names = self.records[0] if self.records else ()
        return {*names, *(column.header for column in self.columns)}

    def _values(self, by: str) -> Callable[[Record], Any]:
        column = next((column for column in self.columns if column.header == by), None)
        if column is None or column.key:
            key = by if column is None else column.key
            return lambda record: record.get(key)
        show = column.show
        return lambda record: None if show(record) == ABSENT else show(record)


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


def spread(key: str, by: str, header: str, *, scale: float = 1.0) -> Column:
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
