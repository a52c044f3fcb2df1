"""`check_metric`: a score per task, better for better predictions, the same in any order of queries."""

from __future__ import annotations

import torch
from torch import Tensor

from metabench.contracts import Metric
from metabench.device.device import Device
from metabench.testing.contract_error import Subject, begin
from metabench.testing.pretended_device import check_no_strays

TASKS, QUERIES, WAYS = 4, 30, 3
KINDS = frozenset({"classification", "regression"})
CLOSE = 1e-5
"""Largest difference of two means of the same 30 numbers, relative to the mean or to 1, in float32.

Summed in another order they differ by 30 · 2⁻²⁴ = 2e-6 at most; the rest is for what the numbers lose.
"""


def check_metric(metric: Metric | type[Metric]) -> None:
    """Check a metric against its whole contract, for every kind of data that it scores.

    Raises ContractError with what is wrong and what to do.
    """
    metric, subject = begin("metric", metric)
    subject.require(
        bool(metric.kinds) and metric.kinds <= KINDS,
        f"kinds must hold 'classification', 'regression' or both, got {set(metric.kinds)}",
    )
    subject.require(
        isinstance(metric.unit, str) and isinstance(metric.higher_is_better, bool),
        f"unit and higher_is_better must be text and bool, got {metric.unit!r}, {metric.higher_is_better!r}",
    )
    low, high = metric.bounds
    subject.require(low < high, f"bounds are {metric.bounds!r}; they are the least and the greatest score")
    for kind in sorted(metric.kinds):
        for dtype in (torch.float32, torch.float64):
            _check(metric, subject, kind, dtype)


def _check(metric: Metric, subject: Subject, kind: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    if kind == "classification":
        target = torch.randint(WAYS, (TASKS, QUERIES), generator=generator)
        perfect = 5 * torch.nn.functional.one_hot(target, WAYS).to(dtype)
        wrong = perfect.roll(1, 2)
    else:
        target = torch.randn(TASKS, QUERIES, 2, generator=generator, dtype=dtype)
        perfect, wrong = target.clone(), target + 3
    wrong_rows = (torch.arange(TASKS) * QUERIES // (2 * TASKS))[:, None] > torch.arange(QUERIES)
    mixed = torch.where(
        wrong_rows[..., None], wrong, perfect
    )  # task t has its own fraction of wrong predictions

    def score(prediction: Tensor, truth: Tensor = target) -> Tensor:
        with subject.doing("score(prediction, target)"):
            scores = metric.score(prediction, truth)
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else scores
        subject.require(
            shape == (len(truth),) and scores.is_floating_point(),
            f"score must return a floating-point score for each of {len(truth)} tasks of {kind}, [T], got "
            f"{shape}",
        )
        return scores

    best, worst, between = score(perfect), score(wrong), score(mixed)
    low, high = metric.bounds
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
    alone = torch.cat([score(mixed[t : t + 1], target[t : t + 1]) for t in range(TASKS)])
    subject.require(
        torch.allclose(between, alone, rtol=CLOSE, atol=CLOSE),
        "a task's score depends on the other tasks of the batch: reduce over queries only, never over tasks",
    )
    order = torch.randperm(QUERIES, generator=generator)
    subject.require(
        torch.allclose(between, score(mixed[:, order], target[:, order]), rtol=CLOSE, atol=CLOSE),
        "the score changes with the order of the queries",
    )
    copy, truth = mixed.clone(), target.clone()
    score(mixed)
    subject.require(
        torch.equal(copy, mixed) and torch.equal(truth, target), "score changes its arguments in place"
    )
    of_nan = score(torch.full_like(perfect, torch.nan))
    too_good = of_nan > worst + CLOSE if metric.higher_is_better else of_nan < worst - CLOSE
    subject.require(
        not bool(too_good.any()),
        f"predictions of NaN score {of_nan.tolist()}, better than wrong ones ({worst.tolist()}): "
        "return NaN, or the worst score",
    )

    def score_there(device: Device) -> None:
        scores = metric.score(mixed.to(device.torch), target.to(device.torch))
        subject.require(
            scores.device.type == device.torch.type,
            f"score must return a tensor on {device.torch} for predictions there, got one on {scores.device}",
        )

    check_no_strays(subject, score_there, dtype)
