"""Tables as HTML without scripts, for pages and notebooks; every text of them is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from metabench.text import printable

if TYPE_CHECKING:
    from metabench.records.section import Section


def section_html(section: Section[Any]) -> str:
    """Return a table as HTML: its title, its lines, its notes; withdrawn lines are struck through."""
    from tabulate import tabulate  # imported late: most readers of records make no table

    columns, lines, notes = section.shown()
    align = ["right" if column.right else "left" for column in columns]
    body = tabulate(
        [
            [_cell(text, struck) for text in line]
            for line, struck in zip(lines, section.struck(), strict=True)
        ],
        [escape(printable(column.header)) for column in columns],
        tablefmt="unsafehtml",
        disable_numparse=True,
        colalign=align if lines else None,
    )
    paragraphs = "\n".join(f"<p>{escape(printable(note))}</p>" for note in notes)
    return f"<h2>{escape(section.title)}</h2>\n<div>{body}</div>\n{paragraphs}"


def _cell(text: str, struck: bool) -> str:
    shown = escape(printable(text))
    return f"<s>{shown}</s>" if struck else shown
