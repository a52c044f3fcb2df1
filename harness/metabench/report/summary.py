"""Summaries over seeds: interval, tier, times, and whether a configuration was trained enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from metabench import stats
from metabench.contracts import CONTRACT_VERSION
from metabench.records.cell import Status
from metabench.records.row import AVERAGES, PEAKS, SHARED, Averages, FurtherFields, Peaks, Row, Shared
from metabench.records.summary import Deviations, Labels, Reference, Scored, Seeds, Summary
from metabench.report.labels import TRANSDUCTION
from metabench.report.limits import accept_annealed, budget_limited_reason
from metabench.report.rankings import finite, rank
from metabench.report.references import published, unlike
from metabench.report.verdicts import add_verdicts
from metabench.results.reproductions import Reruns, reruns_of
from metabench.results.table import Results


@dataclass(frozen=True)
class Summaries:
    """Results and their summaries over seeds: what every table of a report is made of.

    price_per_hour: of one device, for the columns of money.
    """

    results: Results
    price_per_hour: float | None = None

    @cached_property
    def summaries(self) -> list[Summary]:
        """One summary per configuration and machine with a scored result, in the order of the results."""
        return _summarize(self.results)

    @property
    def ranked(self) -> Sequence[Summary]:
        """The summaries of no series over hardware or sizes, or all if there are no others."""
        return ranked(self.summaries)


def ranked(summaries: Sequence[Summary]) -> Sequence[Summary]:
    """Return the summaries of no series over hardware or sizes, or all if there are no others."""
    return [summary for summary in summaries if not summary["series"]] or summaries


def shared_fields(row: Row) -> Shared:
    """Return the fields that the rows of a summary have in common."""
    fields: Mapping[str, object] = row
    return cast(Shared, {name: fields[name] for name in SHARED})


def _summarize(results: Results) -> list[Summary]:
    groups: dict[tuple[str, str, str], list[int]] = {}
    codes: dict[tuple[str, str], set[str]] = {}
    unmeasured: dict[str, int] = {}
    for i, row in enumerate(results.rows):
        if row["status"] == Status.OK and row["mean"] is not None:
            groups.setdefault(pool(row), []).append(i)
            codes.setdefault(pool(row)[:2], set()).add(row["code"])
        else:
            unmeasured[row["configuration"]] = unmeasured.get(row["configuration"], 0) + 1
    estimates = _estimates(results, list(groups.values()))
    reruns = reruns_of(row["file"] for row in results.rows)
    summaries = [
        _summary(
            results, positions, estimate, unmeasured.get(key[0], 0), reruns, several=len(codes[key[:2]]) > 1
        )
        for (key, positions), estimate in zip(groups.items(), estimates, strict=True)
    ]
    accept_annealed(results, summaries)
    rank(results, summaries)
    add_verdicts(summaries)
    return summaries


def pool(row: Shared) -> tuple[str, str, str]:
    """Return what rows must share to be averaged: configuration, machine and the code that made them."""
    return row["configuration"], row["machine"], row["code"]


def _summary(
    results: Results,
    positions: list[int],
    scored: Scored,
    unmeasured: int,
    reruns: Mapping[str, Reruns],
    *,
    several: bool,
) -> Summary:
    """Return the summary of these rows; its place in a ranking is filled in by `_rank`.

    several: whether other code gave results of the configuration too.
    """
    rows = [results.rows[i] for i in positions]
    references = published(rows[0])
    return {
        **shared_fields(rows[0]),
        **_means(rows),
        **_peaks(rows),
        **_deviations(rows),
        **scored,
        **_labels(rows, references, unmeasured, reruns),
        "code_label": _code_label(rows[0], several),
        **_seeds(rows, positions),
        "references": references,
        "unlike": unlike(rows[0]),
        "further": _further(results, positions),
    }


def _further(results: Results, positions: Sequence[int]) -> dict[str, FurtherFields]:
    """Return what the further metrics give that every one of these rows has."""
    rows = [results.rows[i] for i in positions]
    titles = [title for title in rows[0]["further"] if all(title in row["further"] for row in rows)]
    return {title: _further_fields(results, title, positions) for title in titles}


def _further_fields(results: Results, title: str, positions: Sequence[int]) -> FurtherFields:
    """Return the mean over seeds of a further metric, with its interval over crossed seeds and tasks."""
    metrics = [results.rows[i]["further"][title] for i in positions]
    values = [metric["value"] for metric in metrics if metric["value"] is not None]
    if len(values) < len(metrics):
        return {**metrics[0], "value": None, "half_width": None}
    scores = results.further_matrix(title, positions)
    if scores is None:  # other tasks in each seed: only the seeds' values can be compared
        scores = np.array([[value] for value in values]).T
    half = float(stats.estimate(scores).half_width())
    dates = {metric["rescored"] for metric in metrics} - {""}
    return {
        **metrics[0],
        "value": fmean(values),
        "half_width": finite(half),
        "rescored": max(dates, default=""),
    }


def _estimates(results: Results, groups: Sequence[Sequence[int]]) -> list[Scored]:
    """Return the scores of every group; groups of one shape and of the same tasks at once."""
    alike: dict[tuple[tuple[int, ...], str], list[tuple[int, NDArray[np.float64]]]] = {}
    for number, positions in enumerate(groups):
        scores = results.score_matrix(positions)
        if scores is None:  # other tasks in each seed: only the seeds' means can be compared
            scores = np.array([[results.scores[i].mean()] for i in positions]).T
        alike.setdefault((scores.shape, _tasks_of(results, positions)), []).append((number, scores))
    estimates: dict[int, Scored] = {}
    for (shape, _), members in alike.items():
        scores = np.stack([scores for _, scores in members])
        redraw = results.redraw(groups[members[0][0]])
        redraw = redraw if redraw is not None and len(redraw.members) == shape[1] else None
        estimate = stats.estimate(scores)
        half = estimate.half_width()
        # the wider one: of few seeds a greater variance can come with more degrees of freedom
        new_half = None if redraw is None else np.maximum(half, stats.estimate(scores, redraw).half_width())
        for at, (number, _) in enumerate(members):
            estimates[number] = {
                "mean": float(estimate.mean[at]),
                "half_width": finite(half[at]),
                "new_half_width": None if new_half is None else finite(new_half[at]),
                "redrawn": "" if redraw is None else redraw.what,
                "tested": "",
                "seed_share": finite(estimate.seed_share[at]) if shape[0] > 1 else None,
                "task_share": finite(estimate.task_share[at]) if shape[0] > 1 else None,
                "ranking": "",
                "ranking_place": 0,
                "rank": None,
                "rivals": 0,
                "detectable": None,
                "references": (),
                "verdicts": (),
                "unlike": "",
                "further": {},
            }
    return [estimates[number] for number in range(len(groups))]


def _tasks_of(results: Results, positions: Sequence[int]) -> str:
    """Return the digest of these rows' tasks, empty where they are not the same ones."""
    manifests = {results.rows[i]["manifest"] or "" for i in positions}
    return manifests.pop() if len(manifests) == 1 else ""


def _code_label(row: Row, several: bool) -> str:
    """Return the contract that a result was made under, if an older one, and its code, where that matters."""
    older = 0 < row["contract"] < CONTRACT_VERSION
    labels = [f"contract {row['contract']}"] if older else []
    if not row["code"]:
        labels.append("code not recorded")
    elif several:
        labels.append(f"code {row['code'][:6]}")
    return "; ".join(labels)


def _means(rows: Sequence[Row]) -> Averages:
    columns: Sequence[Mapping[str, Any]] = rows
    values = {name: [row[name] for row in columns if row[name] is not None] for name in AVERAGES}
    return cast(Averages, {name: sum(v) / len(v) if v else None for name, v in values.items()})


def _peaks(rows: Sequence[Row]) -> Peaks:
    columns: Sequence[Mapping[str, Any]] = rows
    values = {name: [row[name] for row in columns if row[name] is not None] for name in PEAKS}
    return cast(Peaks, {name: max(v, default=None) for name, v in values.items()})


def _deviations(rows: Sequence[Row]) -> Deviations:
    seconds = [row["training_seconds"] for row in rows if row["training_seconds"] is not None]
    steps = [row["step_spread"] for row in rows if row["step_spread"] is not None]
    return {
        "training_spread": _deviation(seconds) if len(seconds) > 1 else None,
        "step_spread": fmean(spread * spread for spread in steps) ** 0.5 if steps else None,
        "blocks": sum(row["blocks"] for row in rows),
    }


def _deviation(values: Sequence[float]) -> float:
    """Return the standard deviation; `statistics.stdev` is exact, and too slow for thousands of summaries."""
    mean = fmean(values)
    return float((sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5)


def _labels(
    rows: Sequence[Row], references: Sequence[Reference], unmeasured: int, reruns: Mapping[str, Reruns]
) -> Labels:
    claimed = any(bool(row["transductive"]) for row in rows)
    checks = {row["transductive_found"] for row in rows} - {None}
    observed = True in checks if checks else None
    reason = budget_limited_reason(rows, references)
    own = [reruns[row["file"]] for row in rows if row["file"] in reruns]
    return {
        "overlap_unknown": any(row["overlap"] == "unknown" for row in rows),
        "code_label": "",
        "transductive": claimed or bool(observed),
        "transduction": TRANSDUCTION[claimed, observed],
        "unstable": any(bool(row["unstable"]) for row in rows),
        "budget_limited": bool(reason),
        "limited_reason": reason,
        "kept": any(row["state"] == "kept" for row in rows),
        "resumed": sum(row["resumed"] for row in rows),
        "unmeasured": unmeasured,
        "withdrawn": next((row["withdrawn"] for row in rows if row["withdrawn"]), ""),
        "warnings": sorted({note for row in rows for note in row["notes"]}),
        "reproduced": len(frozenset().union(*(rerun.reproduced for rerun in own))),
        "not_reproduced": len(frozenset().union(*(rerun.failed for rerun in own))),
    }


def _seeds(rows: Sequence[Row], positions: list[int]) -> Seeds:
    return {
        "seeds": len(rows),
        "seed_list": sorted(row["seed"] for row in rows),
        "steps_taken": _extremes([row["trained_steps"] for row in rows if row["trained_steps"]]),
        "ended_by": sorted({row["ended_by"] for row in rows if row["ended_by"]}),
        "tasks": min(row["count"] for row in rows),
        "date": max(row["date"] for row in rows),
        "positions": positions,
        "files": [row["file"] for row in rows],
    }


def _extremes(values: Sequence[int]) -> list[int]:
    return [min(values), max(values)] if values else []
