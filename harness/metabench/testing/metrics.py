"""`check_metric`: one score per task, better for better predictions, blind to the order of queries."""

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
    """Checks a metric against its whole contract, for every kind of data that it scores.

    Raises ContractError with what is wrong and what to do.
    """
    metric, subject = begin("metric", metric)
    subject.require(
        bool(metric.kinds) and metric.kinds <= KINDS,
        f"kinds is {set(metric.kinds)}; it holds 'classification', 'regression' or both",
    )
    subject.require(
        isinstance(metric.unit, str) and isinstance(metric.higher_is_better, bool),
        f"unit is {metric.unit!r} and higher_is_better {metric.higher_is_better!r}; they are text and bool",
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
    mixed = torch.where(wrong_rows[..., None], wrong, perfect)  # task t has its own share of wrong answers

    def score(prediction: Tensor, truth: Tensor = target) -> Tensor:
        with subject.doing("score(prediction, target)"):
            found = metric.score(prediction, truth)
        shape = tuple(found.shape) if isinstance(found, Tensor) else found
        subject.require(
            shape == (len(truth),) and found.is_floating_point(),
            f"score gives {shape} for {len(truth)} tasks of {kind}; it gives one floating-point score per "
            "task, [T]",
        )
        return found

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
        f"{metric.higher_is_better}: one of them is upside down",
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
    kept, truth = mixed.clone(), target.clone()
    score(mixed)
    subject.require(
        torch.equal(kept, mixed) and torch.equal(truth, target), "score changes its arguments in place"
    )
    lost = score(torch.full_like(perfect, torch.nan))
    praised = lost > worst + CLOSE if metric.higher_is_better else lost < worst - CLOSE
    subject.require(
        not bool(praised.any()),
        f"predictions that are not a number score {lost.tolist()}, better than wrong ones "
        f"({worst.tolist()}): give nan, or the worst score",
    )

    def score_there(device: Device) -> None:
        found = metric.score(mixed.to(device.torch), target.to(device.torch))
        subject.require(
            found.device.type == device.torch.type,
            f"score gives a tensor on {found.device} for predictions on {device.torch}",
        )

    check_no_strays(subject, score_there, dtype)
