"""Checks of one result's scores: against its cell, its metric, and each other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metabench.publishing.findings import Faults
from metabench.publishing.installation import Installation
from metabench.records.cell import Cell
from metabench.records.metric_scores import SCORE_ROUNDING, MetricScores, metric_title, score_limits
from metabench.records.protocol import VariedProtocol
from metabench.records.result import Scores

DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class MetricFacts:
    """What is known of a metric: by its class where it is installed, else by what the result says of it."""

    name: str
    unit: str
    higher_is_better: bool
    low: float = -math.inf
    high: float = math.inf
    pooled: bool | None = None  # None: not known

    def inside(self, values: NDArray[np.float64]) -> bool:
        """Whether scores are finite and within the metric's bounds."""
        return bool(
            np.isfinite(values).all()
            and (values >= self.low - SCORE_ROUNDING).all()
            and (values <= self.high + SCORE_ROUNDING).all()
        )


def metric_facts(installation: Installation, cell: Cell, scores: Scores | None) -> MetricFacts:
    """The facts of a cell's metric."""
    name = cell.evaluation.metric or (scores.metric if scores else "")
    stated = (scores.unit, scores.higher_is_better) if scores else ("", True)
    return _facts(installation, name, *stated)


def _facts(installation: Installation, name: str, unit: str, higher: bool) -> MetricFacts:
    """The facts of a metric; unit, higher: what a result states, where its plugin is not here."""
    installed = installation.component("metric", name)
    low, high, pooled = -math.inf, math.inf, None
    if installed is not None:
        unit, higher, pooled = installed["unit"], installed["higher_is_better"], installed["pooled"]
        low, high = installed["bounds"]
    low, high = score_limits(unit, (low, high))
    return MetricFacts(name, unit, higher, low, high, pooled)


def further_faults(cell: Cell, scores: Scores, installation: Installation) -> Faults:
    """What is wrong with the further metrics of an ok result."""
    asked = {metric_title(spec) for spec in cell.evaluation.metrics}
    given = {title for title, metric in scores.further.items() if not metric.rescored}
    if given != asked:
        yield "metrics", f"has the further metrics {_listed(given)}, the suite asks for {_listed(asked)}"
    for title, metric in scores.further.items():
        facts = _facts(installation, metric.metric.name, metric.unit, metric.higher_is_better)
        for what in _further_metric_faults(title, metric, facts, cell):
            yield "metrics", f"{title}: {what}"


def _further_metric_faults(title: str, metric: MetricScores, facts: MetricFacts, cell: Cell) -> Iterator[str]:
    if title != metric_title(metric.metric):
        yield f"it is of {metric_title(metric.metric)}"
    if (metric.unit, metric.higher_is_better) != (facts.unit, facts.higher_is_better):
        yield f"unit and direction are {metric.unit!r} and {metric.higher_is_better}, not the metric's own"
    if facts.pooled is not None and facts.pooled != (metric.pooled is not None):
        yield f"it must {'' if facts.pooled else 'not '}have a score of all tasks together"
    if len(metric.per_task) != cell.evaluation.tasks:
        yield f"{len(metric.per_task)} tasks are scored, the suite asks for {cell.evaluation.tasks}"
    values = np.asarray([*metric.per_task, *([] if metric.pooled is None else [metric.pooled])])
    finite = values[np.isfinite(values)]  # a probability of 0 is a score of infinity, and stored as null
    if not facts.inside(finite):
        yield f"a score is beyond the metric's bounds, {facts.low:g} to {facts.high:g}"


def score_faults(document: Mapping[str, Any], cell: Cell, scores: Scores, metric: MetricFacts) -> Faults:
    """What is wrong with the scores of an ok result."""
    yield from _metric_faults(cell, scores, metric)
    values = np.asarray(scores.per_task, dtype=np.float64)
    if len(values) != cell.evaluation.tasks:
        yield "scores", f"{len(values)} tasks are scored, the suite asks for {cell.evaluation.tasks}"
    if not len(values) or not np.isfinite(values).all():
        yield "scores", "some are no finite numbers"
        return
    yield from _value_faults("task", values, cell, metric)
    mean = document.get("mean")
    if not isinstance(mean, (int, float)) or not math.isclose(
        mean, values.mean(), rel_tol=1e-9, abs_tol=1e-12
    ):
        yield "scores", f"the mean {mean} does not follow from the per-task scores ({values.mean():.6g})"
    yield from _curve_faults(cell, scores, metric)
    yield from _batch_faults(cell, scores)
    if not DIGEST.fullmatch(scores.manifest):
        yield "manifest", "is no SHA-256"
    if scores.transductive_found and not scores.transductive:
        yield "transduction", "predictions depend on other queries, which the algorithm does not claim"


def _metric_faults(cell: Cell, scores: Scores, metric: MetricFacts) -> Faults:
    if scores.metric != metric.name:
        yield "metric", f"scores are of {scores.metric!r}, the cell asks for {metric.name!r}"
    if scores.unit != metric.unit:
        yield "metric", f"the unit is {scores.unit!r}, that of {metric.name!r} is {metric.unit!r}"
    if scores.higher_is_better != metric.higher_is_better:
        better = "higher" if metric.higher_is_better else "lower"
        yield (
            "metric",
            f"higher_is_better is {scores.higher_is_better}, of {metric.name!r} {better} is better",
        )


def _value_faults(kind: str, values: NDArray[np.float64], cell: Cell, metric: MetricFacts) -> Faults:
    """Values beyond the metric's bounds, or accuracies that no number of right answers gives."""
    low, high = metric.low - SCORE_ROUNDING, metric.high + SCORE_ROUNDING
    beyond = np.flatnonzero(~((values >= low) & (values <= high)))
    if len(beyond):
        at = int(beyond[0])
        bounds = f"{metric.low:g} to {metric.high:g}"
        yield "scores", f"{kind} {at} scores {values[at]:.6g}, beyond the bounds of {metric.name}: {bounds}"
        return
    answers = cell.test.ways * cell.test.queries
    right = values * answers
    uneven = np.flatnonzero(np.abs(right - right.round()) > 1e-3)
    if len(uneven) and metric.name == "accuracy" and not isinstance(cell.test, VariedProtocol):
        at = int(uneven[0])
        what = f"{kind} {at} scores {values[at]:.6g}, which is no number of right answers of {answers}"
        yield "scores", what


def _curve_faults(cell: Cell, scores: Scores, metric: MetricFacts) -> Faults:
    asked = {str(steps) for steps in cell.evaluation.curve}
    if set(scores.curve) != asked:
        yield "curve", f"has the steps {_listed(scores.curve)}, the suite asks for {_listed(asked)}"
    for steps, values in scores.curve.items():
        if len(values) != cell.evaluation.tasks:
            yield "curve", f"{len(values)} tasks are scored after {steps} steps"
        yield from _value_faults(
            f"after {steps} steps, task", np.asarray(values, dtype=np.float64), cell, metric
        )


def _batch_faults(cell: Cell, scores: Scores) -> Faults:
    """Batches of adaptation that do not add up to the test tasks, and latencies that were not asked for."""
    sizes = scores.adapt_tasks
    if len(sizes) != len(scores.adapt_seconds):
        yield "adaptation", f"{len(scores.adapt_seconds)} times of {len(sizes)} batches"
    if sum(sizes) != cell.evaluation.tasks:
        yield (
            "adaptation",
            f"its batches have {sum(sizes):g} tasks, the suite asks for {cell.evaluation.tasks}",
        )
    elif sizes and (max(sizes) > cell.evaluation.batch or min(sizes) < 1):
        yield (
            "adaptation",
            f"a batch has {max(sizes):g} tasks, the suite allows 1 to {cell.evaluation.batch}",
        )
    if sizes and not min(scores.adapt_seconds, default=1.0) > 0:
        yield "adaptation", "a batch took no time"
    if len(scores.latency_seconds) != cell.evaluation.latency_tasks:
        yield (
            "latency",
            f"{len(scores.latency_seconds)} single tasks, the suite asks for {cell.evaluation.latency_tasks}",
        )


def _listed(names: Sequence[str] | Mapping[str, Any] | set[str]) -> str:
    return ", ".join(sorted(names, key=lambda name: (len(name), name))) or "none"
