"""Cells laid out in two directions, each place with one cell: what would meet is kept on lines of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metabench.report.columns import (
    AXIS_COLUMNS,
    COUNT_COLUMNS,
    STEPS,
    SUITE,
    Column,
    Record,
    Section,
    standing_notes,
    text,
)
from metabench.report.summary import plain_cells
from metabench.text import score_text

if TYPE_CHECKING:
    from metabench.results.table import Table

MARKS = "t: transductive. b: budget-limited. u: unstable times."


@dataclass(frozen=True)
class Grid:
    """Lines of cells.

    columns: what tells lines apart beside their names; lines: texts of these, name, cells by head.
    """

    columns: Sequence[Column]
    heads: Sequence[Any]
    lines: Sequence[tuple[tuple[str, ...], Any, dict[Any, Record]]]


def grid(
    cells: Sequence[Record],
    down: Callable[[Record], Any],
    across: Callable[[Record], Any],
    axes: Sequence[str] = (),
) -> Grid:
    """Cells by two of their values; axes: what these are called, where they are axes of the results.

    Suite, metric, seeds, tasks and machine always tell lines apart; another column does so where two cells
    of one place differ in it. Columns in which all cells are the same are kept: they are quiet.
    """
    always = [*([text("version", "version", quiet=True)] if "suite" in axes else [SUITE]), *COUNT_COLUMNS]
    always += [text(name, name, quiet=True) for name in ("metric", "machine") if name not in axes]
    places: dict[tuple[Any, ...], list[Record]] = {}
    for cell in cells:
        key = (down(cell), across(cell), *(column.show(cell) for column in always))
        places.setdefault(key, []).append(cell)
    meeting = [each for each in places.values() if len(each) > 1]
    columns = [
        *always,
        *(
            column
            for column in (*AXIS_COLUMNS[1:], STEPS)
            if any(len({column.show(cell) for cell in each}) > 1 for each in meeting)
        ),
    ]
    lines: dict[tuple[Any, ...], dict[Any, Record]] = {}
    for cell in cells:
        texts, number = tuple(column.show(cell) for column in columns), 0
        while across(cell) in lines.setdefault((texts, down(cell), number), {}):
            number += 1  # nothing that a table shows tells these cells apart
        lines[texts, down(cell), number][across(cell)] = cell
    heads = list(dict.fromkeys(across(cell) for cell in cells))
    return Grid(columns, heads, [(texts, name, found) for (texts, name, _), found in lines.items()])


def pivot(table: Table, lines: str, across: str) -> Section:
    """Scores with `lines` down and `across` along the top."""
    cells = plain_cells(table)
    laid = grid(cells, lambda cell: cell[lines], lambda cell: cell[across], (lines, across))
    columns = [column for column in laid.columns if column.header not in (lines, across)]
    records = [
        {column.header: told for column, told in zip(laid.columns, texts, strict=True)}
        | {lines: name}
        | {f"at {head}": marked(cell) for head, cell in found.items()}
        for texts, name, found in laid.lines
    ]
    shown = [
        *(text(column.header, column.header, quiet=True, right=column.right) for column in columns),
        text(lines, lines),
        *(text(f"at {head}", f"{across} {head}", right=True) for head in laid.heads),
    ]
    notes = [f"± is half a 95 % interval. {MARKS}", *standing_notes(cells)]
    return Section("pivot", f"Score by {lines} and {across}", records, shown, notes)


def score(cell: Record) -> str:
    """The mean score of a cell with half its interval."""
    return score_text(cell["mean"], cell["half_width"], cell["unit"])


def marks(cell: Record) -> str:
    """The labels of a cell as letters; MARKS says what they mean."""
    letters = {"t": "transductive", "b": "budget_limited", "u": "unstable"}
    return "".join(letter for letter, name in letters.items() if cell[name])


def marked(cell: Record) -> str:
    """A score with the letters of its labels."""
    return score(cell) + (f" [{marks(cell)}]" if marks(cell) else "")
