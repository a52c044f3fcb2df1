"""What learners share: a base for those that train one module, and the losses of both kinds of task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler

from metabench.contracts import Learner


class ModuleLearner(Learner):
    """A learner that trains the parameters of one module with one optimizer; write `learn`, `adapt`, `predict`.

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
        return (prediction - target).square().flatten(1).mean(1)
    flat = F.cross_entropy(prediction.flatten(0, 1), target.flatten(), reduction="none")
    return flat.view(target.shape).mean(1)
