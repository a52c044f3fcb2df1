"""Reptile: the starting point moves towards where each task's training ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metabench import Examples, Network, Preset, Workload, setting
from metabench.data import draws
from metabench.device import Device
from metabench.engine import TaskAdam, TaskWeights, constant_gradients, inner_steps
from metabench.learning import Adapted, DisplacementLearner, GradientAlgorithm

DECAYS = (0.0, 0.999)
"""β₁ and β₂ of Adam in the authors' code."""


@dataclass(frozen=True, kw_only=True)
class Reptile(GradientAlgorithm):
    """Trains on each task for some steps and moves the starting point towards the weights it ended with.

    A. Nichol, J. Achiam, J. Schulman: On First-Order Meta-Learning Algorithms, arXiv:1803.02999, algorithm 2
    (its batch version). A training task's support and query examples are trained on together, in mini-batches
    of 10 as in the authors' code (20 there for tasks of 20 ways). With `inner_optimizer` "adam" inner steps
    are those of the paper's image experiments: Adam with β₁ = 0, whose second moments go on from task to task
    and are kept for the test. Departures: by default inner steps are plain gradient descent; the tasks of a
    meta-step start from the same moments and leave their mean, where that code takes one task after the
    other; the test takes as many steps as training unless `test_steps` says otherwise, where those
    experiments take 50, in mini-batches too; one order of examples, drawn for each meta-step, gives the
    mini-batches of all of its tasks. Batch norm takes the statistics of all queries, as in the rows "Reptile
    + Transduction" of the paper; `statistics` "support" is nearest to its other rows, where a query shares
    the support set's batch.
    """

    name: ClassVar[str] = "reptile"
    presets: ClassVar[Mapping[str, Preset]] = {
        "nichol2018": Preset(
            "the authors' code for Omniglot, 5 ways",
            {"inner_optimizer": "adam", "inner_rate": 0.001, "steps": 5, "mini_batch": 10, "test_steps": 50},
            'dataset = "omniglot", network = {name = "conv4", readout = "flatten"}, '
            "train = {shots = 5, queries = 5}, budget = {steps = 100000, tasks = 5}",
        ),
        "nichol2018-20way": Preset(
            "the authors' code for Omniglot, 20 ways",
            {"inner_optimizer": "adam", "inner_rate": 5e-4, "steps": 10, "mini_batch": 20, "test_steps": 50},
            'dataset = "omniglot", network = {name = "conv4", readout = "flatten"}, '
            "train = {shots = 5, queries = 5}, budget = {steps = 200000, tasks = 5}",
        ),
        "nichol2018-mini-imagenet": Preset(
            "the authors' code for mini-ImageNet",
            {"inner_optimizer": "adam", "inner_rate": 0.001, "steps": 8, "mini_batch": 10, "test_steps": 50},
            'dataset = "mini-imagenet", network = {name = "conv4", width = 32}, '
            "train = {shots = 8, queries = 7}, budget = {steps = 100000, tasks = 5}",
        ),
    }

    space: ClassVar[Mapping[str, Any]] = {"inner_rate": (2e-3, 0.2, "log"), "rate": (0.1, 1.0, "log")}
    inner_rate: float = setting(0.02, "step size of adaptation", above=0)
    steps: int = setting(5, "inner steps in training, k", at_least=1)
    rate: float = setting(1.0, "outer step size, ε; falls linearly to 0 over the budget", above=0)
    inner_optimizer: str = setting("sgd", "of inner steps; adam has β₁ = 0", choices=("sgd", "adam"))
    mini_batch: int = setting(10, "examples of an inner step in training; 0: all of the task", at_least=0)

    def build(self, workload: Workload, network: Network | None, device: Device) -> "ReptileLearner":
        """Build the learner of the whole network's starting point."""
        return ReptileLearner(self, self.module(network, workload, device), workload)


class ReptileLearner(DisplacementLearner):
    """φ ← φ + ε · mean over tasks of (φ̃ᵢ − φ): plain gradient descent along `.grad` = mean of (φ − φ̃ᵢ)."""

    anneals = True

    def __init__(self, reptile: Reptile, module: nn.Module, workload: Workload) -> None:
        moments = Moments(module) if reptile.inner_optimizer == "adam" else None
        super().__init__(module, workload, reptile, moments)
        self.moments = moments
        self.reptile = reptile
        self.seed = workload.seed

    def ended(self, examples: Examples, step: int) -> tuple[TaskWeights, Sequence[Tensor]]:
        """Return φ̃, and with Adam the number of steps and the second moments after them."""
        if self.moments is None:
            return self.trained(examples, step), ()
        weights: TaskWeights = self.start(len(examples.x))
        adam = self.moments.adam(self.reptile.inner_rate, weights)
        for part in self._parts(examples, step):
            _, gradients = constant_gradients(self.loss_on(part), weights)
            weights = adam.stepped(weights, gradients)
        count = self.moments.count.new_full((len(examples.x),), adam.steps)
        return weights, (count, *adam.squares.values())

    def trained(self, examples: Examples, step: int) -> TaskWeights:
        """Return φ̃: all weights after k steps of gradient descent, each on the next mini-batch."""
        weights: TaskWeights = self.start(len(examples.x))
        if not 0 < self.reptile.mini_batch < examples.x.shape[1]:
            return self._inner_steps(examples, weights, self.steps)
        for part in self._parts(examples, step):
            weights = self._inner_steps(part, weights, 1)
        return weights

    def _parts(self, examples: Examples, step: int) -> list[Examples]:
        """Return the mini-batch of each inner step, or all examples over and over."""
        x, y = examples
        if not 0 < self.reptile.mini_batch < x.shape[1]:
            return [examples] * self.steps
        return [Examples(x[:, rows], y[:, rows]) for rows in self._mini_batches(x.shape[1], step)]

    def _mini_batches(self, examples: int, step: int) -> list[Tensor]:
        """Return the rows of each inner step: the next of an order drawn for this meta-step."""
        size = self.reptile.mini_batch
        generator = torch.Generator().manual_seed(draws.key("metabench", "reptile", self.seed, step))
        passes = -(-self.steps * size // examples)
        order = torch.cat([torch.randperm(examples, generator=generator) for _ in range(passes)])
        return [order[i : i + size] for i in range(0, self.steps * size, size)]

    def _inner_steps(self, examples: Examples, start: TaskWeights, steps: int) -> TaskWeights:
        loss = self.loss_on(examples)
        return inner_steps(loss, start, self.reptile.inner_rate, steps, first_order=True)

    def update(self, step: int, total: int) -> None:
        """Set φ ← φ + ε (φ̃ − φ), with ε falling linearly to 0."""
        assert self.optimizer is not None
        self.optimizer.param_groups[0]["lr"] = self.reptile.rate * (1 - step / max(1, total))
        super().update(step, total)

    def adapt(self, support: Examples, steps: int | None = None) -> Adapted:
        """Return all weights after `steps` gradient steps on the support set."""
        steps = self.test_steps if steps is None else steps
        weights = self.start(len(support.x))
        if self.moments is None:
            return Adapted(self._inner_steps(support, weights, steps), support.x)
        with torch.no_grad():
            adam, loss = self.moments.adam(self.reptile.inner_rate, weights), self.loss_on(support)
            for _ in range(steps):
                weights = adam.stepped(weights, constant_gradients(loss, weights)[1])
        return Adapted(weights, support.x)


class Moments(nn.Module):
    """What Adam goes on from: how many steps it has taken, and the second moment of each weight."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        self.count = nn.Parameter(next(module.parameters()).new_zeros(()))
        self.squares = nn.ParameterList(torch.zeros_like(weight) for weight in weights)

    def adam(self, rate: float, weights: TaskWeights) -> TaskAdam:
        """Return the optimizer of these tasks' weights; it changes nothing here."""
        squares = {
            name: square.detach().expand(weight.shape)
            for (name, weight), square in zip(weights.items(), self.squares, strict=True)
        }
        return TaskAdam(rate, DECAYS, squares, int(self.count))
