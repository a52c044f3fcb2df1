"""Reptile: the starting point moves towards where each task's training ends."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from metabench import Examples, Network, Workload, setting
from metabench.data import draws
from metabench.device import Device
from metabench.engine import TaskWeights, inner_steps
from metabench.learning import Adapted, DisplacementLearner, GradientAlgorithm


@dataclass(frozen=True, kw_only=True)
class Reptile(GradientAlgorithm):
    """Trains on each task for some steps and moves the starting point towards the weights it ended with.

    A. Nichol, J. Achiam, J. Schulman: On First-Order Meta-Learning Algorithms, arXiv:1803.02999,
    algorithm 2 (its batch version). A training task's support and query examples are trained on together, in
    mini-batches of 10 as in the authors' code (20 there for tasks of 20 ways). Departures: inner steps are
    plain gradient descent, where the paper's image experiments use Adam with β₁ = 0, and the test takes as
    many as training unless `test_steps` says otherwise, where those experiments take 50, in mini-batches too;
    one order of examples, drawn for each meta-step, gives the mini-batches of all of its tasks. Batch norm
    takes the statistics of all queries, as in the rows "Reptile + Transduction" of the paper; `statistics`
    "support" is nearest to its other rows, where a query shares the support set's batch.
    """

    name: ClassVar[str] = "reptile"

    inner_rate: float = setting(0.02, "step size of adaptation", above=0)
    steps: int = setting(5, "inner steps in training, k", at_least=1)
    rate: float = setting(1.0, "outer step size, ε; falls linearly to 0 over the budget", above=0)
    mini_batch: int = setting(10, "examples of an inner step in training; 0: all of the task", at_least=0)

    def build(self, workload: Workload, network: Network | None, device: Device) -> "ReptileLearner":
        """Build the learner of the whole network's starting point."""
        return ReptileLearner(self, self.module(network, workload, device), workload)


class ReptileLearner(DisplacementLearner):
    """φ ← φ + ε · mean over tasks of (φ̃ᵢ − φ): plain gradient descent along `.grad` = mean of (φ − φ̃ᵢ)."""

    anneals = True

    def __init__(self, reptile: Reptile, module: nn.Module, workload: Workload) -> None:
        super().__init__(module, workload, reptile)
        self.reptile = reptile
        self.seed = workload.seed

    def trained(self, examples: Examples, step: int) -> TaskWeights:
        """Return φ̃: all weights after k steps, each on the next mini-batch."""
        x, y = examples
        weights: TaskWeights = self.start(len(x))
        if not 0 < self.reptile.mini_batch < x.shape[1]:
            return self._inner_steps(examples, weights, self.steps)
        for rows in self._mini_batches(x.shape[1], step):
            weights = self._inner_steps(Examples(x[:, rows], y[:, rows]), weights, 1)
        return weights

    def _mini_batches(self, examples: int, step: int) -> list[Tensor]:
        """Return the rows of each inner step: the next of an order drawn for this meta-step."""
        size = self.reptile.mini_batch
        generator = torch.Generator().manual_seed(draws.key("metabench", "reptile", self.seed, step))
        passes = -(-self.steps * size // examples)
        order = torch.cat([torch.randperm(examples, generator=generator) for _ in range(passes)])
        return [order[i : i + size] for i in range(0, self.steps * size, size)]

    def _inner_steps(self, examples: Examples, start: TaskWeights, steps: int) -> dict[str, Tensor]:
        loss = self.loss_on(examples)
        return inner_steps(loss, start, self.reptile.inner_rate, steps, first_order=True)

    def update(self, step: int, total: int) -> None:
        """Set φ ← φ + ε (φ̃ − φ), with ε falling linearly to 0."""
        assert self.optimizer is not None
        for group in self.optimizer.param_groups:
            group["lr"] = self.reptile.rate * (1 - step / max(1, total))
        super().update(step, total)

    def adapt(self, support: Examples, steps: int | None = None) -> Adapted:
        """Return all weights after `steps` gradient steps on the support set."""
        steps = self.test_steps if steps is None else steps
        return Adapted(self._inner_steps(support, self.start(len(support.x)), steps), support.x)
