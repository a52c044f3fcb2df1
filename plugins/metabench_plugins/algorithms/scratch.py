"""Scratch: a network trained on a task's support set alone, the floor that any meta-training must beat."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from metabench import Algorithm, Examples, Network, Protocol, Workload, setting
from metabench.device import Device
from metabench.engine import TaskAdam, TaskWeights, constant_gradients, expand_weights
from metabench.learning import (
    TASK_STATISTICS,
    TASK_STATISTICS_HELP,
    TaskNetwork,
    UntrainedLearner,
    build_network,
    load_module,
    module_tensors,
    outputs_of,
    task_losses,
)


@dataclass(frozen=True, kw_only=True)
class Scratch(Algorithm):
    """Trains the network on each task's support set alone, from one seeded initialisation.

    The floor of every comparison: what a network gets from the support set without meta-training, by
    Adam (D. Kingma, J. Ba, 2015) with its usual decay rates. Batch norm takes the statistics of all queries,
    as for `maml`, so the evaluation is transductive unless `statistics` says otherwise.
    """

    name: ClassVar[str] = "scratch"
    kinds: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})

    steps: int = setting(100, "steps of Adam on the support set", at_least=0)
    inner_rate: float = setting(0.03, "learning rate of Adam", above=0)
    statistics: str = setting("queries", TASK_STATISTICS_HELP, choices=TASK_STATISTICS)

    def train_protocol(self, test: Protocol) -> None:
        """Return None: nothing is learned from other tasks."""

    def build(self, workload: Workload, network: Network | None, device: Device) -> "ScratchLearner":
        """Build the learner that starts every task from this initialisation."""
        module = build_network(self.name, network, workload, device, workload.outputs)
        return ScratchLearner(self, module, workload)


class Trained(NamedTuple):
    """Each task's own weights [T, …] by name, and the support inputs [T, n, *input]."""

    weights: Mapping[str, Tensor]
    support_x: Tensor


class ScratchLearner(UntrainedLearner):
    """Adam for each task, which starts from the same weights every time."""

    def __init__(self, settings: Scratch, module: nn.Module, workload: Workload) -> None:
        self.settings = settings
        self.kind = workload.facts.kind
        self.outputs = outputs_of(self.kind)
        self.lifted = TaskNetwork(module, settings.statistics, settings.statistics)
        self.transductive = self.lifted.transductive

    @property
    def path(self) -> str:  # type: ignore[override]  # the generic path is chosen in the first run
        """Return the execution path of the engine: "batched", "vmap" or "loop"."""
        return self.lifted.path

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights that every task starts from."""
        return module_tensors(self.lifted.module)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Start every task from these weights."""
        load_module(self.lifted.module, state)

    def adapt(self, support: Examples, steps: int | None = None) -> Trained:
        """Return each task's weights after `steps` steps on its support set."""

        def loss(weights: TaskWeights) -> Tensor:
            return task_losses(self.kind, self.lifted(support.x, weights), support.y)

        weights: TaskWeights = expand_weights(self.lifted.module, len(support.x))
        adam = TaskAdam(self.settings.inner_rate)
        for _ in range(self.settings.steps if steps is None else steps):
            _, gradients = constant_gradients(loss, weights)
            with torch.no_grad():  # nothing is learned through the steps
                weights = adam.stepped(weights, gradients)
        return Trained({name: weight.detach() for name, weight in weights.items()}, support.x)

    def predict(self, state: Trained, query_x: Tensor) -> Tensor:
        """Return predictions [T, q, outputs] of each task's own network."""
        return self.lifted.queries(state.support_x, query_x, state.weights)
