"""`check_metric`: better for better predictions, the same in any order of queries, each task by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metabench.contracts import Metric
from metabench.device.device import Device
from metabench.records.metric_scores import score_limits
from metabench.records.outputs import NEEDS, kind_of
from metabench.scoring import NO_CLASS
from metabench.testing.contract_error import Subject, begin
from metabench.testing.pretended_device import check_no_strays

TASKS, QUERIES, WAYS = 4, 30, 3
CLOSE = 1e-5
"""Largest difference of two means of the same 30 numbers, relative to the mean or to 1, in float32.

Summed in another order they differ by 30 · 2⁻²⁴ = 2e-6 at most; the rest is for what the numbers lose.
"""


def check_metric(metric: Metric | type[Metric]) -> None:
    """Check a metric against its whole contract.

    Raises ContractError with what is wrong and what to do.
    """
    metric, subject = begin("metric", metric)
    subject.require(metric.needs in NEEDS, f"needs must be one of {', '.join(NEEDS)}, got {metric.needs!r}")
    subject.require(
        isinstance(metric.unit, str)
        and isinstance(metric.higher_is_better, bool)
        and isinstance(metric.pooled, bool),
        "unit, higher_is_better and pooled must be text, bool and bool, got "
        f"{metric.unit!r}, {metric.higher_is_better!r}, {metric.pooled!r}",
    )
    low, high = metric.bounds
    subject.require(low < high, f"bounds are {metric.bounds!r}; they are the least and the greatest score")
    for dtype in (torch.float32, torch.float64):
        bench = _Bench.of(metric, subject, dtype)
        for check in (_check_order_of_scores, _check_tasks_alone, _check_queries, _check_nan, _check_places):
            check(bench)


@dataclass(frozen=True)
class _Bench:
    """A metric and predictions as it needs them: perfect ones, wrong ones, and a part of each per task."""

    metric: Metric
    subject: Subject
    dtype: torch.dtype
    target: Tensor
    perfect: Tensor
    wrong: Tensor
    mixed: Tensor

    @classmethod
    def of(cls, metric: Metric, subject: Subject, dtype: torch.dtype) -> _Bench:
        """Return the bench; task t has its own fraction of wrong predictions among the mixed ones."""
        generator = torch.Generator().manual_seed(0)
        if kind_of(metric.needs) == "regression":
            target = torch.randn(TASKS, QUERIES, 2, generator=generator, dtype=dtype)
            perfect, wrong = target.clone(), target + 3
        else:
            target = torch.randint(WAYS, (TASKS, QUERIES), generator=generator)
            perfect = _predicting(metric, target, dtype)
            wrong = _predicting(metric, (target + 1) % WAYS, dtype)
        chosen = (torch.arange(TASKS) * QUERIES // (2 * TASKS))[:, None] > torch.arange(QUERIES)
        mixed = torch.where(chosen.view(TASKS, QUERIES, *[1] * (perfect.dim() - 2)), wrong, perfect)
        return cls(metric, subject, dtype, target, perfect, wrong, mixed)

    def score(self, prediction: Tensor, target: Tensor | None = None) -> Tensor:
        """Return what `score` gives, a row per task; check its shape."""
        target = self.target if target is None else target
        with self.subject.doing("score(prediction, target)"):
            scores = self.metric.score(prediction, target)
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else scores
        rows = isinstance(scores, Tensor) and scores.is_floating_point() and shape[:1] == (len(target),)
        if self.metric.pooled:
            self.subject.require(
                rows and len(shape) == 2,
                f"score of a pooled metric must return floating-point parts for each of {len(target)} tasks, "
                f"[T, k], which are summed over the tasks, got {shape}",
            )
        else:
            self.subject.require(
                rows and len(shape) == 1,
                f"score must return a floating-point score for each of {len(target)} tasks, [T], got "
                f"{shape}; a score of all tasks together is a pooled metric's",
            )
        return scores

    def pool(self, parts: Tensor) -> Tensor:
        """Return what `pool` makes of summed parts [..., k], in float64 as in a run; check its shape."""
        with self.subject.doing("pool(parts)"):
            pooled = self.metric.pool(parts.double())
        shape = tuple(pooled.shape) if isinstance(pooled, Tensor) else pooled
        self.subject.require(
            shape == parts.shape[:-1],
            f"pool must return one score for each row of parts {tuple(parts.shape)}, "
            f"{tuple(parts.shape[:-1])}, got {shape}",
        )
        return pooled

    def scores(self, prediction: Tensor) -> Tensor:
        """Return the scores of a prediction: one per task, or one of all of them, [1], where it is pooled."""
        rows = self.score(prediction)
        return self.pool(rows.sum(0)[None]) if self.metric.pooled else rows


def _predicting(metric: Metric, classes: Tensor, dtype: torch.dtype) -> Tensor:
    """Return predictions of these classes, as the metric needs them."""
    if metric.needs == "classes":
        return classes.clone()
    scores = 5 * torch.nn.functional.one_hot(classes, WAYS).to(dtype)
    return scores.log_softmax(2) if metric.needs == "probabilities" else scores


def _check_order_of_scores(bench: _Bench) -> None:
    """Check that right predictions score better than wrong ones, within the bounds."""
    metric, subject = bench.metric, bench.subject
    best, worst, between = map(bench.scores, (bench.perfect, bench.wrong, bench.mixed))
    low, high = score_limits(metric.unit, metric.bounds)
    for scores in (best, worst, between):
        subject.require(
            bool(((scores >= low - CLOSE) & (scores <= high + CLOSE)).all()),
            f"scores are {scores.tolist()}, and bounds say {low} to {high}",
        )
    better = best > worst if metric.higher_is_better else best < worst
    subject.require(
        bool(better.all()),
        f"right predictions score {best.tolist()}, wrong ones {worst.tolist()}, and higher_is_better is "
        f"{metric.higher_is_better}: higher_is_better or score has the wrong sign",
    )


def _check_tasks_alone(bench: _Bench) -> None:
    """Check that what `score` gives a task is of that task alone, and that `pool` keeps rows apart."""
    mixed, target, subject = bench.mixed, bench.target, bench.subject
    rows = bench.score(mixed)
    alone = torch.cat([bench.score(mixed[t : t + 1], target[t : t + 1]) for t in range(TASKS)])
    subject.require(
        _close(rows, alone),
        "a task's score depends on the other tasks of the batch: reduce over queries only, never over tasks",
    )
    if bench.metric.pooled:
        left_out = rows.sum(0) - rows
        subject.require(
            _close(bench.pool(left_out), torch.stack([bench.pool(parts) for parts in left_out])),
            "pool(parts) gives other scores for several rows than for each of them: reduce over the last "
            "axis only",
        )


def _check_queries(bench: _Bench) -> None:
    """Check that the order of the queries changes nothing, and that the arguments stay as they are."""
    mixed, target, subject = bench.mixed, bench.target, bench.subject
    order = torch.randperm(QUERIES, generator=torch.Generator().manual_seed(1))
    subject.require(
        _close(bench.score(mixed), bench.score(mixed[:, order], target[:, order])),
        "the score changes with the order of the queries",
    )
    copy, truth = mixed.clone(), target.clone()
    bench.score(mixed)
    subject.require(
        torch.equal(copy, mixed) and torch.equal(truth, target), "score changes its arguments in place"
    )


def _check_nan(bench: _Bench) -> None:
    """Check that predictions that are no numbers score no better than wrong ones."""
    metric, perfect = bench.metric, bench.perfect
    nothing = torch.full_like(perfect, NO_CLASS if metric.needs == "classes" else torch.nan)
    of_nan, worst = bench.scores(nothing), bench.scores(bench.wrong)
    too_good = of_nan > worst + CLOSE if metric.higher_is_better else of_nan < worst - CLOSE
    bench.subject.require(
        not bool(too_good.any()),
        f"predictions of NaN score {of_nan.tolist()}, better than wrong ones ({worst.tolist()}): "
        "return NaN, or the worst score",
    )


def _check_places(bench: _Bench) -> None:
    """Check that every tensor is made on the device of the predictions."""

    def score_there(device: Device) -> None:
        there = replace(bench, mixed=bench.mixed.to(device.torch), target=bench.target.to(device.torch))
        scores = there.metric.score(there.mixed, there.target)
        bench.subject.require(
            scores.device.type == device.torch.type,
            f"score must return a tensor on {device.torch} for predictions there, got one on {scores.device}",
        )

    check_no_strays(bench.subject, score_there, bench.dtype)


def _close(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=CLOSE, atol=CLOSE)
