"""Predictions turned into scores: what a metric is given, what it gives each task, and all tasks together.

A run and `metabench rescore` score with the same functions, on the CPU: the same predictions give the same
scores, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metabench.contracts import Metric
from metabench.errors import Invalid
from metabench.records.cell import Spec
from metabench.records.metric_scores import SCORE_ROUNDING, MetricScores, score_limits
from metabench.records.outputs import SERVED_BY, Needs, Outputs

NO_CLASS = -1
"""The predicted class of a query with a score of NaN: it is right nowhere."""

Rows = list[list[float]]
"""What a metric gives each of some tasks: one score, or of a pooled metric its parts."""


def as_needed(prediction: Tensor, outputs: Outputs, needs: Needs) -> Tensor:
    """Return a learner's predictions [T, q, outputs] as a metric with this need takes them.

    Logits become log-probabilities wherever class scores are asked for: they are known up to a constant for
    each query, which would decide how a metric ranks queries. Of equal scores the first class is predicted.
    Floats of half precision become float32. Raises ValueError where the outputs do not serve the need
    (`metabench.records.outputs.mismatch`).
    """
    if outputs not in SERVED_BY[needs]:
        raise ValueError(f"a metric that needs {needs} cannot score {outputs}")
    if needs == "classes":
        return prediction.argmax(-1).masked_fill(prediction.isnan().any(-1), NO_CLASS)
    if prediction.dtype in (torch.float16, torch.bfloat16):
        prediction = prediction.float()
    return prediction.log_softmax(-1) if outputs == "logits" else prediction


def score_rows(metric: Metric, outputs: Outputs, prediction: Tensor, target: Tensor) -> Rows:
    """Return what a metric gives each of these tasks.

    Raises Invalid where that is not one row per task, or where a score is beyond the metric's bounds.

    prediction: [T, q, outputs]; target: [T, q] or [T, q, outputs]; both on the CPU.
    """
    scores = metric.score(as_needed(prediction, outputs, metric.needs), target)
    wanted = "parts [T, k]" if metric.pooled else "scores [T]"
    if scores.dim() != 1 + metric.pooled or len(scores) != len(target):
        raise Invalid(
            f"metric {metric.name!r} must give {wanted} for {len(target)} tasks, got {tuple(scores.shape)}"
        )
    if not metric.pooled:
        _require_within_bounds(metric, scores)
    rows: Rows = scores.reshape(len(target), -1).tolist()
    return rows


def _require_within_bounds(metric: Metric, scores: Tensor) -> None:
    """Raise Invalid where a score is beyond the bounds; NaN and infinity are judged where scores are used."""
    low, high = score_limits(metric.unit, metric.bounds)
    finite = scores[scores.isfinite()]
    beyond = finite[(finite < low - SCORE_ROUNDING) | (finite > high + SCORE_ROUNDING)]
    if len(beyond):
        raise Invalid(
            f"metric {metric.name!r} of unit {metric.unit!r} must give scores from {low:g} to {high:g}, "
            f"got {float(beyond[0]):g}"
        )


def metric_scores(
    metric: Metric, spec: Spec, source: str, rows: Sequence[Sequence[float]], rescored: str = ""
) -> MetricScores:
    """Return a further metric's scores from what it gave each test task.

    A pooled metric is scored on all tasks together, and on all but each one.
    """
    pooled = None
    if metric.pooled:
        parts = torch.tensor(rows, dtype=torch.float64)
        total = parts.sum(0)
        _require_within_bounds(metric, metric.pool(total[None]))
        pooled = float(metric.pool(total))
        per_task = tuple(metric.pool(total - parts).tolist())
    else:
        per_task = tuple(score for (score,) in rows)
    return MetricScores(spec, source, metric.unit, metric.higher_is_better, per_task, pooled, rescored)


def score_all(
    metrics: Mapping[str, Metric], outputs: Outputs, prediction: Tensor, target: Tensor
) -> dict[str, Rows]:
    """Return what each of these metrics gives each of these tasks."""
    return {name: score_rows(metric, outputs, prediction, target) for name, metric in metrics.items()}
