"""A table of a report: raw figures, the columns that show them, and notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from metabench.text import ABSENT, printable

if TYPE_CHECKING:
    import pandas as pd

Line = TypeVar("Line", bound=Mapping[str, Any])
"""The type of a table's lines, mostly a TypedDict such as `metabench.records.Summary`."""

Line_contra = TypeVar("Line_contra", bound=Mapping[str, Any], contravariant=True)
EMPTY = "None of these results belongs in this table."


@dataclass(frozen=True)
class Column(Generic[Line_contra]):
    """A column: its header and the text that it shows for a line; right: aligned to the right.

    quiet: dropped, and stated in the notes, if all records show the same text; key: the figure that records
    are sorted by, the shown text if this is empty.
    """

    header: str
    show: Callable[[Line_contra], str]
    right: bool = False
    quiet: bool = False
    key: str = ""


@dataclass(frozen=True)
class Section(Generic[Line]):
    """One table of a report.

    records: the raw figures, one mapping per line; columns: how they are shown; notes: beneath the table.
    """

    name: str
    title: str
    records: Sequence[Line]
    columns: Sequence[Column[Line]]
    notes: Sequence[str] = field(default_factory=tuple)

    def __bool__(self) -> bool:
        return len(self.records) > 0

    @property
    def frame(self) -> pd.DataFrame:
        """The raw figures as a pandas DataFrame, one row per line."""
        import pandas as pd  # takes a third of a second, which a table on the terminal does not wait for

        return pd.DataFrame(list(self.records))

    def html(self) -> str:
        """Return the table as HTML without scripts: title, lines, notes, every text of them escaped.

        Lines that were withdrawn are struck through.
        """
        from tabulate import tabulate  # imported late: most readers of records make no table

        columns, lines, notes = self.shown()
        align = ["right" if column.right else "left" for column in columns]
        body = tabulate(
            [
                [_cell(text, struck) for text in line]
                for line, struck in zip(lines, self.struck(), strict=True)
            ],
            [escape(printable(column.header)) for column in columns],
            tablefmt="unsafehtml",
            disable_numparse=True,
            colalign=align if lines else None,
        )
        paragraphs = "\n".join(f"<p>{escape(printable(note))}</p>" for note in notes)
        return f"<h2>{escape(self.title)}</h2>\n<div>{body}</div>\n{paragraphs}"

    def _repr_html_(self) -> str:
        return self.html()

    def struck(self) -> list[bool]:
        """Return for every line whether it is struck through: results of it were withdrawn."""
        return [bool(record.get("withdrawn")) for record in self.records]

    def shown(self) -> tuple[list[Column[Line]], list[list[str]], list[str]]:
        """Return the columns that are kept, the text of every line, and notes that state the dropped ones."""
        texts = [[column.show(record) for record in self.records] for column in self.columns]
        kept, dropped = [], []
        for column, text in zip(self.columns, texts, strict=True):
            if column.quiet and len(set(text)) <= 1:
                if text and text[0] not in ("", ABSENT):
                    dropped.append(f"{column.header}: {text[0]}")
            else:
                kept.append((column, text))
        lines = [list(line) for line in zip(*(text for _, text in kept), strict=True)] if kept else []
        notes = [*(["; ".join(dropped) + "."] if dropped else []), *self.notes]
        if not self.records:
            notes = [EMPTY]
        return [column for column, _ in kept], lines, notes

    def ordered(self, by: str, descending: bool = False) -> Section[Line]:
        """Return the section sorted by a column's header or a figure's name; records without it come last."""
        value = self._values(by)
        present = [record for record in self.records if value(record) is not None]
        absent = [record for record in self.records if value(record) is None]
        numbers = all(isinstance(value(record), (int, float)) for record in present)
        present.sort(key=lambda record: value(record) if numbers else str(value(record)), reverse=descending)
        return replace(self, records=[*present, *absent])

    def sortable(self) -> set[str]:
        """Return what `ordered` sorts by: the headers of the columns and the names of the figures."""
        names = self.records[0] if self.records else ()
        return {*names, *(column.header for column in self.columns)}

    def _values(self, by: str) -> Callable[[Line], Any]:
        column = next((column for column in self.columns if column.header == by), None)
        if column is None or column.key:
            key = by if column is None else column.key
            return lambda record: record.get(key)
        show = column.show
        return lambda record: None if show(record) == ABSENT else show(record)


def _cell(text: str, struck: bool) -> str:
    shown = escape(printable(text))
    return f"<s>{shown}</s>" if struck else shown
