"""A table of a report: raw figures, how each column shows them, and what must be said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from metabench.text import ABSENT

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
    show: Callable[[Any], str]
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
