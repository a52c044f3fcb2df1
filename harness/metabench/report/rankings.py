"""Which summaries may be ranked together: those of one budget, transductive ones among themselves.

A ranking over rows of different budgets is a ranking of budgets. A budget is the images that training saw,
support and queries, or its seconds where the clock ended it, and the trials that chose its settings; rows
that trained for as long as it took, until validation no longer improved, have a ranking of their own. Rows
that were never trained are ranked with all others, and shown with the largest ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from metabench import stats
from metabench.records.summary import Summary
from metabench.results.table import Results

CONVERGED = "as long as it takes"
"""The ranking of rows that trained until validation had not improved for a stated patience."""

RULE = (
    "Tiers are among rows of one ranking: of the same budget of training (images seen, or seconds), or of "
    f'rows that trained until validation no longer improved ("{CONVERGED}"), transductive rows by '
    "themselves; rows without training are compared with all and shown with the largest ranking"
)
"""What is ranked with what, in the words of every report."""


def budget_of(summary: Summary) -> str:
    """Return the budget that ended the training of a summary, in words; empty where nothing was trained."""
    if not summary["steps"] or not summary["train"]:
        return ""
    ends = set(summary["ended_by"])
    if ends == {"patience"}:
        return CONVERGED
    if ends == {"target"}:
        return "until the target"
    if ends == {"seconds"}:
        return f"{summary['budget_seconds']:g} s"
    if "images" in ends:
        return f"{summary['budget_images']:,} images"
    return f"{summary['steps'] * summary['step_images']:,} images"


def _effort_of(summary: Summary) -> str:
    """Return the budget of training of a summary and the trials that chose its settings, in words."""
    budget, trials = budget_of(summary), summary["tuning_trials"]
    return f"{budget}, {trials} tuning trials" if budget and trials else budget


def rankings(board: Sequence[Summary]) -> Mapping[str, Sequence[Summary]]:
    """Return the rankings of summaries of one protocol by name, the largest first of those of its kind.

    Summaries without training are in every ranking of their kind.
    """
    of_kind: dict[str, dict[str, list[Summary]]] = {}
    for summary in board:
        kind = "transductive" if summary["transductive"] else ""
        of_kind.setdefault(kind, {}).setdefault(_effort_of(summary), []).append(summary)
    named: dict[str, Sequence[Summary]] = {}
    for kind in sorted(of_kind):
        untrained = of_kind[kind].pop("", [])
        by_size = sorted(of_kind[kind].items(), key=lambda ranking: -len(ranking[1]))
        for budget, members in by_size or [("", [])]:
            named[", ".join(filter(None, (kind, budget)))] = [*untrained, *members]
    return named


def rank(results: Results, summaries: Sequence[Summary]) -> None:
    """Fill in what `Scored` says of rankings, among summaries whose scores are of the same tasks."""
    boards: dict[tuple[object, ...], list[Summary]] = {}
    for summary in summaries:
        if not summary["withdrawn"]:
            boards.setdefault(_board(summary), []).append(summary)
    for board in boards.values():
        shown = set[int]()
        for place, (name, members) in enumerate(rankings(board).items()):
            new = [summary for summary in members if id(summary) not in shown]
            shown |= {id(summary) for summary in new}
            for summary in new:
                summary["ranking"], summary["ranking_place"] = name, place
            _rank_members(results, members, new)


def _rank_members(results: Results, members: Sequence[Summary], new: Sequence[Summary]) -> None:
    """Rank the members of a ranking together; fill it in for those that no larger ranking has shown."""
    matrices = [results.score_matrix(summary["positions"]) for summary in members]
    pairs = [(s, scores) for s, scores in zip(members, matrices, strict=True) if scores is not None]
    widths = {scores.shape[1] for _, scores in pairs}
    if len(widths) != 1 or widths == {1}:
        pairs = []
    redraw = results.redraw([i for summary, _ in pairs for i in summary["positions"]]) if pairs else None
    ranking = stats.tiers([scores for _, scores in pairs], members[0]["higher_is_better"], redraw=redraw)
    for summary in new:
        summary["rivals"] = len(pairs)
    shown = {id(summary) for summary in new}
    for (summary, _), place in zip(pairs, ranking.ranks, strict=True):
        if id(summary) in shown:
            summary["rank"] = place
            summary["tested"] = "tasks" if redraw is None else "classes"
            summary["detectable"] = finite(ranking.detectable)


def _board(summary: Summary) -> tuple[object, ...]:
    """Return what summaries must share for their scores to be compared task by task."""
    return (
        bool(summary["series"]), summary["suite"], summary["version"], summary["dataset"], summary["ways"],
        summary["shots"], summary["queries"], summary["metric"], summary["manifest"],
    )  # fmt: skip


def finite(value: float) -> float | None:
    """Return a figure, None where it is infinite or none."""
    return float(value) if np.isfinite(value) else None
