"""Base classes of learners that train one module with one optimizer, or train nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from metabench.contracts import Episodes, Examples, Learner
from metabench.errors import Invalid


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
        """Return the module's parameters that require a gradient, in the module's order."""
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    def update(self, step: int, total: int) -> None:
        """Take one step of the optimizer, then of the schedule."""
        if self.optimizer is not None:
            self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the module, the optimizer and the schedule."""
        parts = {"module": self.module, "optimizer": self.optimizer, "schedule": self.schedule}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore module, optimizer and schedule from what `state_dict` returned."""
        self.module.load_state_dict(state["module"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])


class UntrainedLearner(Learner):
    """A learner that trains nothing: a task has its support set alone; write `adapt`, `predict`."""

    def parameters(self) -> Sequence[Tensor]:
        """Return an empty list: training changes no tensor."""
        return []

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Raise Invalid: there is nothing to train."""
        raise Invalid(f"{type(self).__name__} trains nothing: give its cell a budget of 0 steps")

    def update(self, step: int, total: int) -> None:
        """Change nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state: nothing is trained."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Change nothing."""
