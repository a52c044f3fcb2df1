"""The table of scores, with intervals and tiers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any, cast

from metabench import stats
from metabench.records.section import Column, Section
from metabench.records.summary import Summary
from metabench.report.columns import (
    AXIS_COLUMNS,
    COUNT_COLUMNS,
    NEW_CLASSES,
    STEPS,
    TUNING_TRIALS,
    protocol,
    score,
    standing_notes,
    task,
    text,
)
from metabench.report.further import further_columns, further_figures, further_notes
from metabench.report.labels import flags, reference_text
from metabench.report.rankings import RULE
from metabench.report.summary import Summaries
from metabench.report.verdicts import VERDICT_RULE
from metabench.text import significant

MOST_DIFFERENCES = 8
"""Protocols whose minimum detectable difference the notes state at most."""


def scores(source: Summaries) -> Section[Summary]:
    """Return scores with intervals and tiers, best first within data set and protocol; no series."""
    ranked = sorted(source.ranked, key=best_first)
    columns: list[Column[Summary]] = [
        *AXIS_COLUMNS,
        Column("score", score, right=True, key="mean"),
        *([NEW_CLASSES] if any(summary["redrawn"] for summary in ranked) else []),
        text("ranking", "ranking", quiet=True),
        text("rank", "tier", right=True),
        text("metric", "metric", quiet=True),
        *further_columns(ranked),
        *COUNT_COLUMNS,
        STEPS,
        *([TUNING_TRIALS] if any(s["tuning_trials"] is not None for s in ranked) else []),
        text("machine", "machine", quiet=True),
        Column("published", reference_text, quiet=True),
        Column("notes", flags, quiet=True),
    ]
    records = [cast(Summary, {**summary, **further_figures(summary)}) for summary in ranked]
    return Section("scores", "Scores", records, columns, _notes(ranked) if ranked else ())


def best_first(summary: Summary) -> tuple[Any, ...]:
    """Return the key that orders summaries by what they solve, and then by their scores."""
    best = -summary["mean"] if summary["higher_is_better"] else summary["mean"]
    return (*protocol(summary), bool(summary["withdrawn"]), summary["ranking_place"], best)


def _notes(summaries: Sequence[Summary]) -> list[str]:
    notes = [*standing_notes(summaries), _interval_note(summaries), *_class_notes(summaries)]
    notes += _tier_notes(summaries)
    if any(summary["tuning_trials"] for summary in summaries):
        notes.append(
            "Tuning trials: settings that a search tried on validation tasks; tiers are among equals."
        )
    notes += _variance_notes(summaries)
    notes += further_notes(summaries)
    if any(summary["references"] for summary in summaries):
        notes.append(f"{VERDICT_RULE}.")
    return notes


def _class_notes(summaries: Sequence[Summary]) -> list[str]:
    """Return what the intervals for new classes hold for, and which rows have none."""
    if not any(summary["unit"] == "share" for summary in summaries):
        return []  # tasks of regression are new ones each
    redrawn = sorted({summary["redrawn"] for summary in summaries if summary["redrawn"]})
    if not redrawn:
        return ["± holds for more tasks of the same test classes; of other classes nothing is known here."]
    missing = sum(summary["new_half_width"] is None for summary in summaries)
    without = f" {missing} rows have none: the classes of their tasks were not recorded." if missing else ""
    return [
        "± holds for more tasks of the same test classes, the column new classes for other classes too "
        f"(multiple membership, moments; redrawn: {', '.join(redrawn)}).{without}"
    ]


def _interval_note(summaries: Sequence[Summary]) -> str:
    several = "over crossed seeds and tasks (Satterthwaite)"
    single = "over the tasks, which says nothing of other seeds"
    kinds = {summary["seeds"] > 1 for summary in summaries}
    if len(kinds) > 1:
        over = f"where there are several seeds, {several}; where there is one, {single}"
    else:
        over = several if True in kinds else single
    return f"± is half a 95 % interval {over}."


def _tier_notes(summaries: Sequence[Summary]) -> list[str]:
    by_protocol = {
        protocol(summary): f"{_points(summary['detectable'], summary['unit'])} ({_solved(summary)})"
        for summary in summaries
        if summary["detectable"] is not None
    }
    if not by_protocol:
        return []
    least = ", ".join(list(by_protocol.values())[:MOST_DIFFERENCES])
    ranked = [summary for summary in summaries if summary["rank"] is not None]
    holds = {summary["tested"] for summary in ranked}
    over = {"classes": "for new classes too", "tasks": "for the same test classes only"}
    tests = "; ".join(f"tests hold {over[kind]}" for kind in sorted(holds & over.keys()))
    several = [RULE] if len({summary["ranking"] for summary in ranked}) > 1 else []
    return [
        f"{stats.TIER_RULE}; {tests}. "
        f"Smallest difference that would have been found with 80 % chance: {least}.",
        *(f"{rule}." for rule in several),
    ]


def _solved(summary: Summary) -> str:
    return f"{summary['dataset']} {task(summary)}"


def _variance_notes(summaries: Sequence[Summary]) -> list[str]:
    of_seeds = [s["seed_share"] for s in summaries if s["seed_share"] is not None]
    of_tasks = [s["task_share"] for s in summaries if s["task_share"] is not None]
    if not of_seeds:
        return []
    seed, tasks = median(of_seeds), median(of_tasks)
    return [f"Variance of a score, median: {seed:.1%} seed, {tasks:.1%} task, rest {1 - seed - tasks:.1%}."]


def _points(difference: float, unit: str) -> str:
    if unit == "share":
        return f"{difference * 100:.2f} points"
    return f"{significant(difference)} {unit}".strip()
