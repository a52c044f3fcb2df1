"""The table of scores, with intervals and tiers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from metabench import stats
from metabench.records.cell import task_text
from metabench.records.section import Column, Record, Section
from metabench.report.columns import (
    AXIS_COLUMNS,
    COUNT_COLUMNS,
    PROTOCOL,
    STEPS,
    score,
    standing_notes,
    text,
)
from metabench.report.labels import flags, reference_text
from metabench.report.summary import Summaries
from metabench.text import significant

MOST_DIFFERENCES = 8
"""Protocols whose minimum detectable difference the notes state at most."""


def scores(source: Summaries) -> Section:
    """Return scores with intervals and tiers, best first within data set and protocol; no series."""
    ranked = sorted(source.ranked, key=best_first)
    columns = [
        *AXIS_COLUMNS,
        Column("score", score, right=True, key="mean"),
        text("rank", "tier", right=True),
        text("metric", "metric", quiet=True),
        *COUNT_COLUMNS,
        STEPS,
        text("machine", "machine", quiet=True),
        Column("published", reference_text, quiet=True),
        Column("notes", flags, quiet=True),
    ]
    return Section("scores", "Scores", ranked, columns, _notes(ranked) if ranked else ())


def best_first(summary: Record) -> tuple[Any, ...]:
    """Return the key that orders summaries by what they solve, and then by their scores."""
    best = -summary["mean"] if summary["higher_is_better"] else summary["mean"]
    return (*(summary[name] for name in PROTOCOL), best)


def _notes(summaries: Sequence[Record]) -> list[str]:
    notes = [*standing_notes(summaries), _interval_note(summaries)]
    notes += _tier_notes(summaries)
    notes += _variance_notes(summaries)
    if any(summary["references"] for summary in summaries):
        notes.append("Published: agrees within max(2 points, the interval reported) or not.")
    return notes


def _interval_note(summaries: Sequence[Record]) -> str:
    several = "over crossed seeds and tasks (Satterthwaite)"
    single = "over the tasks, which says nothing of other seeds"
    kinds = {summary["seeds"] > 1 for summary in summaries}
    if len(kinds) > 1:
        over = f"where there are several seeds, {several}; where there is one, {single}"
    else:
        over = several if True in kinds else single
    return f"± is half a 95 % interval {over}."


def _tier_notes(summaries: Sequence[Record]) -> list[str]:
    by_protocol = {
        tuple(summary[name] for name in PROTOCOL): summary
        for summary in summaries
        if summary["detectable"] is not None
    }
    if not by_protocol:
        return []
    least = ", ".join(
        f"{_points(s['detectable'], s['unit'])} ({s['dataset']} {task_text(s['ways'], s['shots'])})"
        for s in list(by_protocol.values())[:MOST_DIFFERENCES]
    )
    return [f"{stats.TIER_RULE}. Smallest difference that would have been found with 80 % chance: {least}."]


def _variance_notes(summaries: Sequence[Record]) -> list[str]:
    shares = [(s["seed_share"], s["task_share"]) for s in summaries if s["seed_share"] is not None]
    if not shares:
        return []
    seed, task = (median(values) for values in zip(*shares, strict=True))
    return [f"Variance of a score, median: {seed:.1%} seed, {task:.1%} task, rest {1 - seed - task:.1%}."]


def _points(difference: float, unit: str) -> str:
    if unit == "share":
        return f"{difference * 100:.2f} points"
    return f"{significant(difference)} {unit}".strip()
