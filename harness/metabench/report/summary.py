"""One row per cell and machine over its seeds: interval, tier, times, and whether it was trained enough.

The `group` of a cell says which table of the suite it belongs to. Any name will do; the beginnings SCALING
and THROUGHPUT, and WEAK in a name, have the meaning that stands beside them here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np

from metabench import stats
from metabench.records.cell import Status
from metabench.records.row import Row
from metabench.report.labels import TRANSDUCTION
from metabench.report.references import published
from metabench.results.table import Results

SCALING = "scaling"
"""Groups that begin so are series over hardware: they have tables of their own and no place in a ranking."""

THROUGHPUT = "throughput"
"""Groups that begin so are series over sizes, in which nothing is learned: no place in a ranking either."""

WEAK = "weak"
"""Groups of scaling with this in their name keep the tasks per rank; the others keep the meta-batch."""

CARRIED = (
    "suite", "version", "group", "method", "algorithm", "algorithm_name", "algorithm_settings", "label",
    "network", "network_name", "network_settings", "dataset", "dataset_name", "dataset_settings", "ways",
    "shots", "queries", "train", "steps", "step_tasks", "target", "backend", "backend_name",
    "backend_settings", "ranks", "threads", "metric", "unit", "higher_is_better", "manifest", "machine",
    "hardware", "device", "cores", "plugin", "configuration", "match", "work", "weak_work", "path",
    "parameters", "state", "evaluation_seed",
)  # fmt: skip
AVERAGED = (
    "setup_seconds", "training_seconds", "validation_seconds", "evaluation_seconds", "adapt_seconds",
    "step_seconds", "tasks_per_second", "communication_share", "sampling_share", "latency_p50",
    "latency_p95", "wall_seconds",
)  # fmt: skip
BOARD = ("suite", "version", "dataset", "ways", "shots", "queries", "metric", "manifest")
"""What cells must share for their scores to be compared task by task."""

LARGEST = ("memory_host", "memory_device")


@dataclass(frozen=True)
class Summaries:
    """Results and their summaries over seeds: what every table of a report is made of.

    price_per_hour: of one device, for the columns of money.
    """

    results: Results
    price_per_hour: float | None = None

    @cached_property
    def summaries(self) -> list[dict[str, Any]]:
        """One summary per configuration and machine with a scored result, in the order of the results."""
        return _summarize(self.results)

    @property
    def ranked(self) -> Sequence[Mapping[str, Any]]:
        """The summaries of no scaling or throughput series, or all if there are no others."""
        return ranked(self.summaries)


def ranked(summaries: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the summaries of no scaling or throughput series, or all if there are no others."""
    return [summary for summary in summaries if not is_series(summary["group"])] or summaries


def _summarize(table: Results) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[int]] = {}
    ended: dict[str, int] = {}
    for i, row in enumerate(table.rows):
        if row["status"] == Status.OK and row["mean"] is not None:
            groups.setdefault((row["configuration"], row["machine"]), []).append(i)
        else:
            ended[row["configuration"]] = ended.get(row["configuration"], 0) + 1
    estimates = _estimates(table, list(groups.values()))
    lines = [
        _line([table.rows[i] for i in each], each, estimates[k], ended.get(configuration, 0))
        for k, ((configuration, _), each) in enumerate(groups.items())
    ]
    _rank(table, lines)
    return lines


def is_series(group: str) -> bool:
    """Whether cells of this group are a series over hardware or size, and no part of a ranking."""
    return group.startswith((SCALING, THROUGHPUT))


def is_weak(group: str) -> bool:
    """Whether cells of this group are a series of weak scaling."""
    return WEAK in group


def _estimates(table: Results, groups: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Mean, half width and variance shares of every group; groups of one shape are computed at once."""
    found: list[dict[str, Any]] = [{}] * len(groups)
    by_shape: dict[tuple[int, int], list[tuple[int, Any]]] = {}
    for k, positions in enumerate(groups):
        scores = table.score_matrix(positions)
        if scores is None:  # other tasks in each seed: only the seeds' means can be compared
            scores = np.array([[table.rows[i]["mean"]] for i in positions]).T
        by_shape.setdefault(scores.shape, []).append((k, scores))
    for shape, members in by_shape.items():
        each = stats.estimate(np.stack([scores for _, scores in members]))
        half = each.half_width()
        for at, (k, _) in enumerate(members):
            found[k] = {
                "mean": float(each.mean[at]),
                "half_width": _known(half[at]),
                "seed_share": _known(each.seed_share[at]) if shape[0] > 1 else None,
                "task_share": _known(each.task_share[at]) if shape[0] > 1 else None,
            }
    return found


def _line(
    seeds: Sequence[Row], positions: Sequence[int], estimate: Mapping[str, Any], ended: int
) -> dict[str, Any]:
    first = seeds[0]
    line: dict[str, Any] = {name: first.get(name) for name in CARRIED}
    for name in AVERAGED:
        values = [row[name] for row in seeds if row[name] is not None]
        line[name] = sum(values) / len(values) if values else None
    line |= _spreads(seeds)
    for name in LARGEST:
        values = [row[name] for row in seeds if row[name] is not None]
        line[name] = max(values) if values else None
    line |= estimate
    references = published(first)
    limited = budget_limited_reason(seeds, references)
    return line | {
        "seeds": len(seeds),
        "seed_list": sorted(row["seed"] for row in seeds),
        "ended": ended,
        "tasks": min(row["count"] for row in seeds),
        "date": max(row["date"] for row in seeds),
        "positions": list(positions),
        **_transduction(seeds),
        "unstable": any(bool(row["unstable"]) for row in seeds),
        "budget_limited": bool(limited),
        "limited_why": limited,
        "references": references,
        "remarks": sorted({note for row in seeds for note in row["notes"]}),
        "files": [row["file"] for row in seeds],
    }


def _spreads(seeds: Sequence[Row]) -> dict[str, Any]:
    """The spread of training time over seeds, and of step times over the blocks of all seeds."""
    seconds = [row["training_seconds"] for row in seeds if row["training_seconds"] is not None]
    steps = [row["step_spread"] for row in seeds if row["step_spread"] is not None]
    return {
        "training_spread": _deviation(seconds) if len(seconds) > 1 else None,
        "step_spread": fmean(one * one for one in steps) ** 0.5 if steps else None,
        "blocks": sum(row["blocks"] for row in seeds),
    }


def _deviation(values: Sequence[float]) -> float:
    """The standard deviation; `statistics.stdev` is exact, and too slow for thousands of cells."""
    mean = fmean(values)
    return float((sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5)


def _transduction(seeds: Sequence[Row]) -> dict[str, Any]:
    claimed = any(bool(row["transductive"]) for row in seeds)
    checks = {row["transductive_found"] for row in seeds} - {None}
    found = True in checks if checks else None
    return {"transductive": claimed or bool(found), "transduction": TRANSDUCTION[claimed, found]}


def _known(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def budget_limited_reason(seeds: Sequence[Row], references: Sequence[Any]) -> str:
    """Why a trained cell counts as budget-limited, empty where it was trained enough or never trained.

    Trained enough: the validation curve is flat over its last quarter in every seed, and every value that
    is stated is reached: the suite's target in every seed, one of the published counterparts. Where
    neither is stated, the flatness alone decides.
    """
    first = seeds[0]
    if not first["steps"] or not first["train"]:
        return ""
    if not all(row["validations"] for row in seeds):
        return "no validation curve"
    if first["target"] is not None and not all(row["target_step"] is not None for row in seeds):
        return "target not reached"
    if any(row["ended_by"] == "target" and not row["flat"] for row in seeds):
        return "ended at its target"
    if not all(row["flat"] for row in seeds):
        return "validation still moving"
    if references:
        mean = float(np.mean([row["mean"] for row in seeds]))
        if mean < min(r.accuracy - r.tolerance for r in references):
            return "below every published reference"
    return ""


def _rank(table: Results, lines: list[dict[str, Any]]) -> None:
    """Adds `rank`, `rivals` and `detectable` among lines whose scores are of the same tasks."""
    boards: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in lines:
        boards.setdefault((is_series(line["group"]), *(line[name] for name in BOARD)), []).append(line)
    for board in boards.values():
        scores = [table.score_matrix(line["positions"]) for line in board]
        told = [(line, one) for line, one in zip(board, scores, strict=True) if one is not None]
        shapes = {one.shape[1] for _, one in told}
        if len(shapes) != 1 or shapes == {1}:
            told = []
        ranking = stats.tiers([one for _, one in told], bool(board[0]["higher_is_better"]))
        for line in board:
            line |= {"rank": None, "rivals": len(told), "detectable": None}
        for (line, _), rank in zip(told, ranking.ranks, strict=True):
            line["rank"] = rank
            line["detectable"] = _known(ranking.detectable)
