"""`check_predictions`: what a learner that trains nothing may predict from, on tasks of a cell's shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metabench.contracts import Episodes, Examples, Learner
from metabench.device.device import Device
from metabench.records.cell import Facts, Workload
from metabench.testing.contract_error import Subject
from metabench.testing.learner_bench import relative_error
from metabench.testing.learner_predictions import check_adapting, check_labels, check_support_labels

TASKS = 2
SEED = 11
NOISE = 0.02
"""Standard deviation of a class's examples around its centre; centres lie between 0 and 1."""
TOLERANCES = {torch.float64: 1e-8}
TOLERANCE = 1e-4
"""Relative difference at which predictions count as the same; in float64 1e-8."""
AGREEMENT = 0.5
"""Fraction of queries that must keep their class when the support set is permuted."""


def example_tasks(workload: Workload, device: Device) -> Episodes:
    """Return made-up tasks of a workload's shape: classes that lie apart, or values of a linear function."""
    generator = torch.Generator().manual_seed(SEED)
    test, shape = workload.test, workload.facts.input_shape
    if workload.facts.kind == "regression":
        n = test.shots
        x = torch.rand(TASKS, n + test.queries, *shape, generator=generator)
        weights = torch.randn(TASKS, x[0, 0].numel(), workload.outputs, generator=generator)
        y = x.flatten(2) @ weights
    else:
        n = test.ways * test.shots
        centres = torch.rand(TASKS, test.ways, *shape, generator=generator)
        support_y = _shuffled_classes(test.ways, test.shots, generator)
        y = torch.cat([support_y, _shuffled_classes(test.ways, test.queries, generator)], 1)
        x = torch.stack([task[classes] for task, classes in zip(centres, y, strict=True)])
        x = x + NOISE * torch.randn(x.shape, generator=generator)
    x = x.to(device.torch, device.dtype)
    y = y.to(device.torch, device.dtype) if y.is_floating_point() else y.to(device.torch)
    none = torch.zeros(TASKS, 0, dtype=torch.long)
    support, query = Examples(x[:, :n], y[:, :n]), Examples(x[:, n:], y[:, n:])
    return Episodes(support, query, none, torch.arange(TASKS))


def _shuffled_classes(ways: int, count: int, generator: torch.Generator) -> Tensor:
    classes = torch.arange(ways).repeat_interleave(count)
    return torch.stack([classes[torch.randperm(len(classes), generator=generator)] for _ in range(TASKS)])


@dataclass
class PredictionBench:
    """A learner that trains nothing, and made-up tasks: what the checks of predictions need of a `Bench`."""

    subject: Subject
    build: Callable[[], Learner]
    workload: Workload
    device: Device
    tolerance: float
    facts: Facts = field(init=False)

    def __post_init__(self) -> None:
        self.facts, self.test = self.workload.facts, self.workload.test

    def learner(self) -> Learner:
        """Build the learner."""
        with self.subject.doing("build"):
            return self.build()

    def tasks(self) -> Episodes:
        """Return tasks of the test."""
        return example_tasks(self.workload, self.device)

    def finish(self, learner: Learner) -> None:
        """Nothing: it trains nothing."""

    def predict(self, learner: Learner, tasks: Episodes, steps: int | None = None) -> Tensor:
        """Return predictions as the harness asks for them."""
        with torch.no_grad(), self.subject.doing("predicting"):
            return self.predict_from(learner, learner.adapt(tasks.support, steps), tasks.query.x)

    def predict_from(self, learner: Learner, state: Any, query_x: Tensor) -> Tensor:
        """Return predictions from an adapted state."""
        with self.subject.doing("predicting"):
            return learner.predict(state, query_x).detach().clone()

    def require_equal(self, a: Tensor, b: Tensor, what: str) -> None:
        """Raise ContractError with `what` unless both are the same."""
        error = relative_error(a, b)
        self.subject.require(error <= self.tolerance, f"{what} (relative difference {error:.1e})")


def check_predictions(title: str, build: Callable[[], Learner], workload: Workload, device: Device) -> None:
    """Check the predictions of a learner that trains nothing, on made-up tasks of a workload's shape.

    Its answer is the same twice; a canary in the query labels changes nothing; permuted queries have permuted
    predictions; relabelled support sets change them; permuted ones leave most queries their class; nothing
    that is given is changed. title: what messages begin with. Raises ContractError.
    """
    tolerance = TOLERANCES.get(device.dtype, TOLERANCE)
    bench: Any = PredictionBench(Subject(title), build, workload, device, tolerance)
    for check in (
        check_repeated, check_adapting, check_labels, check_support_labels, check_permuted_queries,
        check_permuted_support,
    ):  # fmt: skip
        check(bench)


def check_repeated(bench: PredictionBench) -> None:
    """Check that the same tasks have the same predictions, asked twice and of another learner."""
    first, tasks = bench.learner(), bench.tasks()
    before = bench.predict(first, tasks)
    for learner in (first, bench.learner()):
        bench.subject.require(
            relative_error(before, bench.predict(learner, tasks)) == 0,
            "the same tasks have other predictions when asked again: draw from a generator that is seeded by "
            "the task alone, and keep nothing from one call to the next",
        )


def check_permuted_queries(bench: PredictionBench) -> None:
    """Check that permuted queries have permuted predictions."""
    learner, tasks = bench.learner(), bench.tasks()
    order = torch.randperm(tasks.query.x.shape[1], generator=torch.Generator().manual_seed(3))
    order = order.to(bench.device.torch)
    permuted = tasks._replace(query=Examples(tasks.query.x[:, order], tasks.query.y[:, order]))
    bench.require_equal(
        bench.predict(learner, permuted), bench.predict(learner, tasks)[:, order],
        "permuted queries do not have permuted predictions: a prediction depends on a query's place, which "
        "tells nothing",
    )  # fmt: skip


def check_permuted_support(bench: PredictionBench) -> None:
    """Check that most queries keep their class when the examples of the support set change places."""
    if bench.facts.kind == "regression":
        return
    learner, tasks = bench.learner(), bench.tasks()
    x, y = tasks.support
    permuted = tasks._replace(support=Examples(x.flip(1), y.flip(1)))
    same = bench.predict(learner, permuted).argmax(2) == bench.predict(learner, tasks).argmax(2)
    bench.subject.require(
        float(same.double().mean()) >= AGREEMENT,
        "most queries get another class when the examples of the support set change places: take the classes "
        "from support_y, never from the order of the examples",
    )
