"""Base classes of gradient-based learners: tasks adapt by gradient steps, the meta-gradient passes them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from metabench.contracts import Algorithm, Episodes, Examples, Network
from metabench.device.device import Device
from metabench.engine.adapt import starting_weights, tasks_at_once
from metabench.engine.examples_loss import ExamplesLoss
from metabench.engine.execution import EXECUTION_HELP, EXECUTIONS, Execution
from metabench.engine.lift import Part
from metabench.engine.task_weights import TaskWeights
from metabench.errors import Invalid
from metabench.learning.base import ModuleLearner, adam, require_trainable
from metabench.learning.losses import outputs_of, some_tasks, task_losses
from metabench.learning.networks import build_network, output_shape, require_equal_ways
from metabench.learning.statistics import (
    STATISTICS,
    STATISTICS_HELP,
    TASK_STATISTICS,
    TRAIN_STATISTICS_HELP,
    TaskNetwork,
)
from metabench.records.cell import Workload
from metabench.records.outputs import Outputs
from metabench.settings import setting

CHUNK_HELP = "tasks run at once, which changes speed and memory and no result; 0: as many as suit the device"


class Adapted(NamedTuple):
    """An adapted state: each task's own weights [T, …] by name, and its support inputs [T, n, *input]."""

    weights: Mapping[str, Tensor]
    support_x: Tensor


@dataclass(frozen=True, kw_only=True)
class GradientAlgorithm(Algorithm):
    """The settings of algorithms whose tasks adapt by gradient steps."""

    kinds: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})

    inner_rate: float = setting(0.4, "step size of adaptation", above=0)
    steps: int = setting(1, "inner steps in training", at_least=1)
    test_steps: int | None = setting(None, "inner steps in the test; none: as in training", at_least=0)
    rate: float = setting(1e-3, "learning rate of Adam, the outer optimizer", above=0)
    statistics: str = setting("queries", STATISTICS_HELP, choices=STATISTICS)
    train_statistics: str = setting("queries", TRAIN_STATISTICS_HELP, choices=TASK_STATISTICS)
    chunk: int = setting(0, CHUNK_HELP, at_least=0)
    execution: str = setting("eager", EXECUTION_HELP, choices=EXECUTIONS)

    def module(
        self, network: Network | None, workload: Workload, device: Device, head: bool = True
    ) -> nn.Module:
        """Return the cell's network on the device, with a head for the workload, or without one.

        Raises Invalid without a network, where its outputs do not fit, where all its weights are frozen in a
        cell that trains, or where training has other ways.
        """
        require_equal_ways(self.name, workload)
        outputs = workload.outputs if head else None
        module = build_network(self.name, network, workload, device, outputs)
        require_trainable(module, self.name, workload)
        shape = output_shape(module, workload, device)
        assert network is not None  # `build_network` has refused a cell without one
        if len(shape) != 1 or outputs not in (None, shape[0]):
            wanted = f"({outputs},)" if head else "one axis of features"
            raise Invalid(
                f"network {network.name!r} gives {shape} for an input "
                f"{workload.facts.input_shape}; {self.name} needs {wanted}"
            )
        return module


class GradientLearner(ModuleLearner):
    """A learner whose tasks adapt the weights of a network: write `adapt`, and `task_loss` where it differs.

    module: the network, with `.features` and `.head`; settings: the algorithm; meta: what is learned
    beside the network (rates). The outer optimizer is Adam over both. held_per_weight: elements that
    adaptation holds for each weight of each task, where they are many; they bound the tasks run at once.
    """

    held_per_weight: int = 0

    def __init__(
        self,
        module: nn.Module,
        workload: Workload,
        settings: GradientAlgorithm,
        meta: nn.Module | None = None,
    ) -> None:
        learned = nn.ModuleDict({"network": module} if meta is None else {"network": module, "meta": meta})
        super().__init__(learned, adam(learned, settings.rate, settings.name, workload))
        self.kind: Literal["classification", "regression"] = workload.facts.kind
        self.network = TaskNetwork(module, settings.statistics, settings.train_statistics)
        self._own = dict(module.named_parameters())
        self.steps = settings.steps
        self.test_steps = settings.steps if settings.test_steps is None else settings.test_steps
        self.chunk = settings.chunk
        self.execution = Execution(settings.execution, self.parameters())
        self.transductive = self.network.transductive

    @property
    def path(self) -> str:  # type: ignore[override]  # the generic path is chosen in the first run
        """Return the execution path: "batched", "vmap" or "loop", and how a meta-step runs if not eagerly."""
        mode = self.execution.mode
        return self.network.path if mode == "eager" else f"{self.network.path}, {mode}"

    @abstractmethod
    def adapt(self, support: Examples, steps: int | None = None) -> Adapted:
        """Return each task's weights after `steps` inner steps (None: `test_steps`).

        Where gradients are recorded, the result can be differentiated; where not, it holds no graph.
        """

    def predict(self, state: Adapted, query_x: Tensor) -> Tensor:
        """Return predictions [T, q, outputs] of each task's adapted network."""
        return self.run(query_x, state.weights, state.support_x)

    def start(self, tasks: int, part: Part = "all") -> TaskWeights:
        """Return the network's weights (of a part) as the starting point of `tasks` tasks: [T, …] by name."""
        return starting_weights(self._own, tasks, part)

    def run(self, x: Tensor, weights: TaskWeights, support_x: Tensor, part: Part = "all") -> Tensor:
        """Return the network's outputs for queries x [T, q, …] of tasks with the support inputs [T, n, …].

        They are normalised as the settings `statistics` and `train_statistics` say.
        """
        return self.network.queries(support_x, x, weights, part)

    def finish(self, batches: Iterator[Examples]) -> None:
        """Measure the statistics of meta-train where `statistics` is "population"."""
        self.network.finish(batches)

    @property
    def outputs(self) -> Outputs:  # type: ignore[override]  # by the kind of data
        """Return "logits", since the loss is the cross entropy of the predictions; "values" in regression."""
        return outputs_of(self.kind)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of each task, [T]: cross entropy or squared error."""
        return task_losses(self.kind, prediction, target)

    def examples_loss(self, examples: Examples, weights: TaskWeights) -> Tensor:
        """Return the loss [T] of each task's weights on these examples, normalised by their own batch."""
        return self.loss_on(examples)(weights)

    def loss_on(self, examples: Examples) -> ExamplesLoss:
        """Return the loss on these examples as a function of weights, of which `inner_steps` is quick."""

        def plain(weights: TaskWeights) -> Tensor:
            return self.loss(self.network(examples.x, weights), examples.y)

        own = type(self).loss is not GradientLearner.loss
        return ExamplesLoss(self.network, "other" if own else self.kind, examples, plain)

    def task_loss(self, episodes: Episodes, step: int, total: int) -> Tensor:
        """Return the meta-objective of each task, [T], differentiable in `parameters()`.

        It is the adapted network's loss on the task's queries, unless overridden.
        """
        adapted = self.adapt(episodes.support, self.steps)
        own = any(getattr(type(self), n) is not getattr(GradientLearner, n) for n in ("predict", "run"))
        if not own and not self.network.batch_statistics:  # the same sum, without predictions between
            return self.loss_on(episodes.query).once(adapted.weights)
        return self.loss(self.predict(adapted, episodes.query.x), episodes.query.y)

    def phase(self, step: int, total: int) -> Hashable:
        """Return what `task_loss` takes from the step of training; None where it changes at every step."""
        return "always"

    def chunks(self, batch: Episodes) -> Iterator[Episodes]:
        """Yield the batch in chunks of as many tasks as are run at once."""
        at_once = self.chunk or tasks_at_once(batch, self.network, self.held_per_weight)
        if at_once >= len(batch.index):
            yield batch
            return
        for first in range(0, len(batch.index), at_once):
            yield some_tasks(batch, slice(first, first + at_once))

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Leave the gradient of the mean task loss, computed chunk by chunk; return the losses [T]."""
        assert isinstance(batch, Episodes)
        tasks = len(batch.index)
        losses: list[Tensor] = []
        means: list[Tensor] = []
        for chunk in self.chunks(batch):
            whole = len(chunk.index) == tasks
            with self.network.training():
                chunk_losses, gradients = self.execution(
                    lambda episodes: self.task_loss(episodes, step, total),
                    chunk,
                    self.phase(step, total),
                    tasks if whole else 1,
                )
            losses.append(chunk_losses)
            if not means:
                means = list(gradients) if whole else [gradient / tasks for gradient in gradients]
                continue
            for mean, gradient in zip(means, gradients, strict=True):
                mean.add_(gradient, alpha=1 / tasks)
        for parameter, mean in zip(self.execution.parameters, means, strict=True):
            parameter.grad = mean
        return losses[0] if len(losses) == 1 else torch.cat(losses)
