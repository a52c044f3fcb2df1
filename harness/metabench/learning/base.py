"""What learners share: a base for those that train one module, and the losses of both kinds of task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler

from metabench.contracts import Episodes, Examples, Learner
from metabench.errors import Invalid

Batch = TypeVar("Batch", Episodes, Examples)
HOST_INPUTS = 128 * 28 * 28
"""Input numbers that pass a network at once on a CPU: more of them fault more pages than they save calls."""
DEVICE_INPUTS = 8192 * 28 * 28
"""Input numbers that pass a network at once on an accelerator; bounds the memory of activations."""


class ModuleLearner(Learner):
    """A learner that trains one module's parameters with one optimizer; write `learn`, `adapt`, `predict`.

    schedule: a torch scheduler that is stepped after each update, or None.
    """

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer | None, schedule: LRScheduler | None = None
    ) -> None:
        self.module = module
        self.optimizer = optimizer
        self.schedule = schedule

    def parameters(self) -> Sequence[Tensor]:
        """The module's parameters that require a gradient, in the module's order."""
        return [p for p in self.module.parameters() if p.requires_grad]

    def update(self, step: int, total: int) -> None:
        """One step of the optimizer, then of the schedule."""
        if self.optimizer is not None:
            self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of the module, the optimizer and the schedule."""
        parts = {"module": self.module, "optimizer": self.optimizer, "schedule": self.schedule}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Returns module, optimizer and schedule to a state that `state_dict` gave."""
        self.module.load_state_dict(state["module"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])


def task_losses(kind: Literal["classification", "regression"], prediction: Tensor, target: Tensor) -> Tensor:
    """The mean loss of each task, [T]: cross entropy, or squared error for regression.

    prediction: [T, q, outputs]; target: [T, q] class numbers, or [T, q, outputs] values.
    """
    if kind == "regression":
        return F.mse_loss(prediction, target, reduction="none").flatten(1).mean(1)
    flat = F.cross_entropy(prediction.flatten(0, 1), target.flatten(), reduction="none")
    return flat.view(target.shape).mean(1)


class UntrainedLearner(Learner):
    """A learner that trains nothing: each task gives its support set alone; write `adapt`, `predict`."""

    def parameters(self) -> Sequence[Tensor]:
        """No tensor is changed by training."""
        return []

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Refuses: there is nothing to train."""
        raise Invalid(f"{type(self).__name__} trains nothing: give its cell a budget of 0 steps")

    def update(self, step: int, total: int) -> None:
        """Changes nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Empty: nothing is trained."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Changes nothing."""


def mean_gradient(
    parameters: Sequence[Tensor], losses: Callable[[Batch], Tensor], batch: Batch, at_once: int = 0
) -> Tensor:
    """Leaves in `.grad` the gradient of the mean loss over the batch's tasks; returns the losses [T].

    losses: the loss of each task, [T], of some of the batch's tasks; at_once: how many tasks are run
    together (0: as many as suit the device), so that memory does not grow with the meta-batch.
    """
    x = batch.support.x if isinstance(batch, Episodes) else batch.x
    tasks = x.shape[0]
    inputs = x[0].numel() + (batch.query.x[0].numel() if isinstance(batch, Episodes) else 0)
    limit = HOST_INPUTS if x.device.type == "cpu" else DEVICE_INPUTS
    at_once = at_once or max(1, limit // inputs)
    for parameter in parameters:
        parameter.grad = None
    told = []
    for start in range(0, tasks, at_once):
        some = losses(some_tasks(batch, slice(start, start + at_once)))
        (some.sum() / tasks).backward(inputs=list(parameters))  # type: ignore[no-untyped-call]  # torch's own
        told.append(some.detach())
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return torch.cat(told)


def some_tasks(batch: Batch, span: slice) -> Batch:
    """The tasks of a batch (or its micro-batches) that `span` takes, as views."""
    if isinstance(batch, Episodes):
        support, query = (Examples(one.x[span], one.y[span]) for one in (batch.support, batch.query))
        return Episodes(support, query, batch.classes[span], batch.index[span])
    return Examples(batch.x[span], batch.y[span])


class Headed(nn.Module):
    """A network in two parts: `.features` [n, *input] → [n, d] and `.head` [n, d] → [n, outputs].

    outputs: None leaves the head out (`nn.Identity`), for learners that compare features.
    """

    def __init__(self, features: nn.Module, width: int, outputs: int | None) -> None:
        super().__init__()
        self.features = features
        self.head: nn.Module = nn.Identity() if outputs is None else nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[n, *input] → [n, outputs], or [n, d] without a head."""
        y: Tensor = self.head(self.features(x))
        return y
