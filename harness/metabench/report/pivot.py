"""Scores laid out in two directions, one summary a place; rows are split where summaries would collide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metabench.errors import RequestError, did_you_mean
from metabench.records.axes import AXES
from metabench.records.section import Column, Section
from metabench.records.summary import Summary
from metabench.report.columns import (
    AXIS_COLUMNS,
    COUNT_COLUMNS,
    STEPS,
    SUITE,
    score,
    standing_notes,
    text,
)
from metabench.report.mean_rank import RULE, mean_ranks
from metabench.report.summary import Summaries

MARKS = "t: transductive. b: budget-limited. u: unstable times. w: withdrawn."

PIVOTS = tuple(axis for axis in AXES if axis not in ("seed", "status", "date"))
"""The axes that a summary over seeds still has."""


@dataclass(frozen=True)
class GridRow:
    """A row of a grid: the texts of the grid's columns, its name, and the summaries by head."""

    texts: tuple[str, ...]
    name: Any
    summaries: dict[Any, Summary]


@dataclass(frozen=True)
class Grid:
    """Summaries in rows under heads; columns: what tells rows apart beside their names."""

    columns: Sequence[Column[Summary]]
    heads: Sequence[Any]
    rows: Sequence[GridRow]


def grid(
    summaries: Sequence[Summary],
    down: Callable[[Summary], Any],
    across: Callable[[Summary], Any],
    axes: Sequence[str] = (),
) -> Grid:
    """Return summaries by two of their values; axes: what these are called, where they are axes of results.

    Suite, metric, seeds, tasks and machine always tell rows apart; another column does so where two
    summaries of one place differ in it. Columns in which all are the same are kept: they are quiet.
    """
    columns = _apart(summaries, down, across, axes)
    rows: dict[tuple[Any, ...], dict[Any, Summary]] = {}
    for summary in summaries:
        texts, number = tuple(column.show(summary) for column in columns), 0
        while across(summary) in rows.setdefault((texts, down(summary), number), {}):
            number += 1  # nothing that a table shows tells these summaries apart
        rows[texts, down(summary), number][across(summary)] = summary
    heads = list(dict.fromkeys(across(summary) for summary in summaries))
    return Grid(columns, heads, [GridRow(texts, name, places) for (texts, name, _), places in rows.items()])


def _apart(
    summaries: Sequence[Summary],
    down: Callable[[Summary], Any],
    across: Callable[[Summary], Any],
    axes: Sequence[str],
) -> list[Column[Summary]]:
    """Return the columns that tell rows apart."""
    always = [*([text("version", "version", quiet=True)] if "suite" in axes else [SUITE]), *COUNT_COLUMNS]
    always += [text(name, name, quiet=True) for name in ("metric", "machine") if name not in axes]
    places: dict[tuple[Any, ...], list[Summary]] = {}
    for summary in summaries:
        key = (down(summary), across(summary), *(column.show(summary) for column in always))
        places.setdefault(key, []).append(summary)
    colliding = [members for members in places.values() if len(members) > 1]
    axis_columns: Sequence[Column[Summary]] = AXIS_COLUMNS[1:]
    return always + [
        column
        for column in (*axis_columns, STEPS)
        if any(len({column.show(summary) for summary in members}) > 1 for members in colliding)
    ]


def pivot(source: Summaries, down: str, across: str) -> Section[Any]:
    """Return scores with the axis `down` in rows and `across` along the top.

    Raises RequestError for an axis that does not exist, or that a summary over seeds does not have.
    """
    for axis in (down, across):
        if axis not in PIVOTS:
            raise RequestError(f"{axis!r} is not an axis to pivot by; {did_you_mean(axis, PIVOTS)}")
    summaries = source.ranked
    layout = grid(summaries, _value_of(down), _value_of(across), (down, across))
    apart = [column for column in layout.columns if column.header not in (down, across)]
    ranks = mean_ranks([row.summaries for row in layout.rows], layout.heads) if across == "dataset" else []
    records: list[dict[str, Any]] = [
        {column.header: shown for column, shown in zip(layout.columns, row.texts, strict=True)}
        | {down: row.name}
        | {f"at {head}": marked(summary) for head, summary in row.summaries.items()}
        for row in layout.rows
    ]
    for record, rank in zip(records, ranks, strict=False):
        record["mean rank"] = rank
    columns = [
        *(text(column.header, column.header, quiet=True, right=column.right) for column in apart),
        text(down, down),
        *(text(f"at {head}", f"{across} {head}", right=True, optional=True) for head in layout.heads),
        *([text("mean rank", "mean rank", right=True, optional=True)] if any(ranks) else []),
    ]
    notes = [
        f"± is half a 95 % interval. {MARKS}",
        *standing_notes(summaries),
        *([RULE] if any(ranks) else []),
    ]
    return Section("pivot", f"Score by {down} and {across}", records, columns, notes)


def _value_of(axis: str) -> Callable[[Summary], object]:
    """Return what reads an axis whose name is known only when the program runs."""

    def read(summary: Summary) -> object:
        fields: Mapping[str, object] = summary
        return fields[axis]

    return read


def marks(summary: Summary) -> str:
    """Return the labels of a summary as letters; MARKS says what they mean."""
    letters = {"t": summary["transductive"], "b": summary["budget_limited"], "u": summary["unstable"]}
    letters["w"] = bool(summary["withdrawn"])
    return "".join(letter for letter, applies in letters.items() if applies)


def marked(summary: Summary) -> str:
    """Return a score with the letters of its labels."""
    return score(summary) + (f" [{marks(summary)}]" if marks(summary) else "")
