"""Reptile: the starting point moves towards where each task's training ends."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from metabench import Episodes, Examples, Invalid, Network, Workload, setting
from metabench.device import Device
from metabench.engine import Adapted, GradientAlgorithm, GradientLearner, TaskWeights, descend


@dataclass(frozen=True, kw_only=True)
class Reptile(GradientAlgorithm):
    """Trains on each task for some steps and moves the starting point towards the weights it ended with.

    A. Nichol, J. Achiam, J. Schulman: On First-Order Meta-Learning Algorithms, arXiv:1803.02999,
    algorithm 2 (its batch version). A training task's support and query examples are trained on together.
    Departures: inner steps are plain gradient descent, where the paper's image experiments use Adam with
    β₁ = 0. With batch norm the evaluation is transductive, unless `queries` is "alone".
    """

    name: ClassVar[str] = "reptile"

    inner_rate: float = setting(0.02, "step size of adaptation", above=0)
    steps: int = setting(5, "inner steps in training, k", at_least=1)
    rate: float = setting(1.0, "outer step size, ε; falls linearly to 0 over the budget", above=0)
    mini_batch: int = setting(0, "examples of an inner step in training; 0: all of the task", at_least=0)

    def build(self, workload: Workload, network: Network | None, device: Device) -> "ReptileLearner":
        """The learner of the whole network's starting point."""
        return ReptileLearner(self, self.module(network, workload, device), workload)


class ReptileLearner(GradientLearner):
    """φ ← φ + ε · mean over tasks of (φ̃ᵢ − φ): plain descent along `.grad` = mean of (φ − φ̃ᵢ)."""

    def __init__(self, reptile: Reptile, module: nn.Module, workload: Workload) -> None:
        if reptile.execution != "eager":
            raise Invalid("reptile has no meta-gradient to compile or capture: set execution to 'eager'")
        super().__init__(module, workload, reptile)
        self.reptile = reptile
        self.optimizer = torch.optim.SGD(self.module.parameters(), reptile.rate)
        self.seed = workload.seed

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Leaves φ − φ̃ in `.grad`; returns the queries' losses after adaptation, [T]."""
        assert isinstance(batch, Episodes)
        ends = [torch.zeros_like(p) for p in self.parameters()]
        with torch.no_grad():
            losses = torch.cat([self._train(some, step, ends) for some in self.chunks(batch)])
            for parameter, end in zip(self.parameters(), ends, strict=True):
                parameter.grad = parameter - end / len(batch.index)
        return losses

    def _train(self, episodes: Episodes, step: int, ends: list[Tensor]) -> Tensor:
        """Trains on each task, adds the weights φ̃ that it ended with to `ends`, returns the losses [T]."""
        support, query = episodes.support, episodes.query
        x, y = torch.cat([support.x, query.x], 1), torch.cat([support.y, query.y], 1)
        ended: TaskWeights = self.start(len(x))
        for rows in self._mini_batches(x.shape[1], step):
            ended = self._descend(ended, x[:, rows], y[:, rows], 1)
        for end, weight in zip(ends, ended.values(), strict=True):
            end += weight.sum(0)
        return self.loss(self.network(query.x, ended), query.y)

    def _mini_batches(self, examples: int, step: int) -> list[slice | Tensor]:
        """The examples of each inner step: all of them, or the next ones of an order drawn for this step."""
        size = self.reptile.mini_batch or examples
        if size >= examples:
            return [slice(None)] * self.steps
        chance = torch.Generator().manual_seed(hash((self.seed, step)))
        passes = -(-self.steps * size // examples)
        order = torch.cat([torch.randperm(examples, generator=chance) for _ in range(passes)])
        return [order[i : i + size] for i in range(0, self.steps * size, size)]

    def _descend(self, start: TaskWeights, x: Tensor, y: Tensor, steps: int) -> dict[str, Tensor]:
        return descend(
            lambda weights: self.loss(self.network(x, weights), y),
            start,
            self.reptile.inner_rate,
            steps,
            first_order=True,
        )

    def update(self, step: int, total: int) -> None:
        """φ ← φ + ε (φ̃ − φ), with ε falling linearly to 0."""
        assert self.optimizer is not None
        for group in self.optimizer.param_groups:
            group["lr"] = self.reptile.rate * (1 - step / max(1, total))
        super().update(step, total)

    def adapt(self, support: Examples, steps: int | None = None) -> Adapted:
        """All weights after `steps` gradient steps on the support set."""
        steps = self.test_steps if steps is None else steps
        start = self.start(len(support.x))
        return Adapted(self._descend(start, support.x, support.y, steps), support.x)
