"""Runs of a toy cell: constant tasks, and a learner whose losses and weights a test writes down."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metabench import Batches, Budget, Cell, Episodes, Evaluation, Examples, Protocol, Source, Spec
from metabench.device import Device
from metabench.learning import ModuleLearner, task_losses
from metabench.records import Split
from metabench.worker.cell_run import CellRun
from metabench_plugins.metrics.mse import MeanSquaredError


class Shifts(Source):
    """Tasks y = task number's own constant; labelled batches count upwards."""

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        number = torch.tensor(list(indices))
        value = ((number * 7 + seed) % 5).double()[:, None, None] + (100.0 if split == "test" else 0.0)
        n, q = protocol.shots, protocol.queries
        x = torch.arange(n + q, dtype=torch.float64).expand(len(number), -1)[..., None]
        y = value.expand(-1, n + q, -1)
        none = torch.zeros(len(number), 0, dtype=torch.long)
        return Episodes(Examples(x[:, :n], y[:, :n]), Examples(x[:, n:], y[:, n:]), none, number)

    def batch(self, batches: Batches, indices: Sequence[int], seed: int) -> Examples:
        x = torch.tensor([[[float(i)]] * batches.micro for i in indices], dtype=torch.float64)
        return Examples(x, x[..., 0].long())

    def manifest(
        self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        return {"value": np.array([(i * 7 + seed) % 5 for i in indices])}


class Follower(ModuleLearner):
    """Predicts the support's mean plus a learned offset; `script` overrides its losses or its offset."""

    outputs = "values"

    def __init__(self, offsets: Sequence[float] = (), losses: Sequence[float] = ()) -> None:
        module = nn.Module()
        module.register_parameter("offset", nn.Parameter(torch.ones((), dtype=torch.float64)))
        super().__init__(module, torch.optim.SGD(module.parameters(), 0.1))
        self.offsets, self.losses = list(offsets), list(losses)
        self.finished: list[list[float]] = []

    def learn(self, batch: Any, step: int, total: int) -> Tensor:
        self.module.zero_grad()
        losses = task_losses(
            "regression", self.predict(self.adapt(batch.support), batch.query.x), batch.query.y
        )
        losses.mean().backward()
        if self.losses:
            return torch.full_like(losses, self.losses[step]).detach()
        return losses.detach()

    def update(self, step: int, total: int) -> None:
        if self.offsets:
            with torch.no_grad():
                self.module.offset.fill_(self.offsets[step])  # type: ignore[operator]  # it is the parameter
        else:
            super().update(step, total)

    def adapt(self, support: Examples, steps: int | None = None) -> Tensor:
        return support.y.mean(1, keepdim=True) + (0 if steps is None else steps)

    def predict(self, state: Tensor, query_x: Tensor) -> Tensor:
        return (state + self.module.offset).expand(-1, query_x.shape[1], -1)

    def finish(self, batches: Iterator[Examples]) -> None:
        self.finished.append([float(b.x[0, 0]) for b in itertools.islice(batches, 3)])


def toy_cell(budget: Budget, evaluation: Evaluation | None = None, train: Any = Protocol(1, 3, 2)) -> Cell:  # noqa: B008 - frozen
    return Cell(
        suite="s", suite_version=1, algorithm=Spec("follower"), network=None, dataset=Spec("shifts"),
        test=Protocol(1, 3, 2), train=train, budget=budget,
        evaluation=evaluation or Evaluation(10, metric="mse"), backend=Spec("cpu"), seed=3, plugins={},
    )  # fmt: skip


def run_of(learner: Follower, budget: Budget, evaluation: Evaluation | None = None, **more: Any) -> CellRun:
    device = Device(dtype=torch.float64)
    return CellRun(toy_cell(budget, evaluation, **more), learner, Shifts(), MeanSquaredError(), device)
