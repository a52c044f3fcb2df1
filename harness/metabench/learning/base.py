"""Base classes of learners that train one module with one optimizer, or train nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from metabench.contracts import Episodes, Examples, Learner
from metabench.errors import Invalid
from metabench.records.cell import Workload

FUSED = ("cpu", "cuda")
"""Types of device on which torch has Adam as one operation for all parameters."""


def adam(module: nn.Module, rate: float, algorithm: str, workload: Workload) -> torch.optim.Adam | None:
    """Return Adam over the parameters of a module that are not frozen.

    None where there are none and the cell has no steps; raises Invalid where it has some.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if trained:
        fused = all(weight.device.type in FUSED and weight.is_contiguous() for weight in trained)
        optimizer = torch.optim.Adam(trained, rate, fused=fused)  # one call, not a dozen for each parameter
        if fused:
            optimizer.register_step_pre_hook(_make_gradients_contiguous)
        return optimizer
    require_trainable(module, algorithm, workload)
    return None


def require_trainable(network: nn.Module, algorithm: str, workload: Workload) -> None:
    """Raise Invalid where the cell has training steps and all parameters of its network are frozen."""
    if workload.steps and not any(parameter.requires_grad for parameter in network.parameters()):
        raise Invalid(
            f"{algorithm} has nothing to train: the network has no parameter that requires a gradient; give "
            "the cell a budget of 0 steps, or name a network with parameters that are not frozen"
        )


def _make_gradients_contiguous(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Lay out gradients as their parameters are: fused Adam reads numbers in memory's order."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and not parameter.grad.is_contiguous():
                parameter.grad = parameter.grad.contiguous()


COMPUTED = "computed."
"""How the names of what `finish` computed begin in a learned state."""


class ModuleLearner(Learner):
    """A learner that trains one module's parameters with one optimizer; write `learn`, `adapt`, `predict`.

    schedule: a torch scheduler that is stepped after each update, or None; training_head: a module that
    is trained along but that `adapt` and `predict` do not need, or None. `computed`: tensors by name that
    `finish` computes; they are part of the learned state, and `__init__` sets each to one of its shape.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        schedule: LRScheduler | None = None,
        training_head: nn.Module | None = None,
    ) -> None:
        self.module = module
        self.optimizer = optimizer
        self.schedule = schedule
        self.training_head = training_head
        self.computed: dict[str, Tensor] = {}

    def parameters(self) -> Sequence[Tensor]:
        """Return the parameters that require a gradient: the module's in its order, then the head's."""
        modules = [self.module] if self.training_head is None else [self.module, self.training_head]
        return [p for module in modules for p in module.parameters() if p.requires_grad]

    def update(self, step: int, total: int) -> None:
        """Take one step of the optimizer, then of the schedule."""
        if self.optimizer is not None:
            self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the module's tensors by name, and what `finish` computed as "computed.<name>"."""
        computed = {COMPUTED + name: tensor for name, tensor in self.computed.items()}
        return {**module_tensors(self.module), **computed}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy a learned state into the module; raise Invalid where names or shapes differ."""
        require_equal_tensors(self.state_dict(), state)
        load_module(self.module, {n: tensor for n, tensor in state.items() if not n.startswith(COMPUTED)})
        like = next(self.module.parameters(), torch.empty(0))
        self.computed = {name: _copied(state[COMPUTED + name], like) for name in self.computed}

    def training_state(self) -> dict[str, Any]:
        """Return the states of the optimizer, the schedule and the training head."""
        return {name: part.state_dict() for name, part in self._training_parts().items()}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Restore optimizer, schedule and training head from what `training_state` returned."""
        for name, part in self._training_parts().items():
            part.load_state_dict(state[name])

    def _training_parts(self) -> dict[str, Any]:
        parts = {"optimizer": self.optimizer, "schedule": self.schedule, "head": self.training_head}
        return {name: part for name, part in parts.items() if part is not None}


class UntrainedLearner(Learner):
    """A learner that trains nothing: a task has its support set alone; write `adapt`, `predict`.

    One that starts tasks from weights which `build` drew writes `state_dict` and `load_state_dict` too.
    """

    def parameters(self) -> Sequence[Tensor]:
        """Return an empty list: training changes no tensor."""
        return []

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Raise Invalid: there is nothing to train."""
        raise Invalid(f"{type(self).__name__} trains nothing: give its cell a budget of 0 steps")

    def update(self, step: int, total: int) -> None:
        """Change nothing."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return an empty state: nothing is learned."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Change nothing; raise Invalid where the state is not empty."""
        require_equal_tensors({}, state)

    def training_state(self) -> dict[str, Any]:
        """Return an empty state: nothing is trained."""
        return {}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Change nothing."""


def _copied(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a copy on the device of `like`, and of its type where it is a float."""
    dtype = like.dtype if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(like.device, dtype, copy=True)


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters and buffers by name, without their graph."""
    return {name: tensor.detach() for name, tensor in module.state_dict().items()}


def load_module(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a module in place; raise Invalid unless their names and shapes are the module's."""
    require_equal_tensors(module_tensors(module), tensors)
    module.load_state_dict(dict(tensors))


def require_equal_tensors(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], owner: str = "the learner"
) -> None:
    """Raise Invalid with what differs unless both have the same names and shapes."""
    differences = [
        *(f"has no {name!r}" for name in own if name not in given),
        *(f"has {name!r}, which {owner} lacks" for name in given if name not in own),
        *(
            f"has {name!r} of shape {tuple(given[name].shape)}, {owner} has {tuple(tensor.shape)}"
            for name, tensor in own.items()
            if name in given and given[name].shape != tensor.shape
        ),
    ]
    if differences:
        more = f" (+{len(differences) - 3} more)" if len(differences) > 3 else ""
        raise Invalid(f"the state must fit {owner}: it {'; it '.join(differences[:3])}{more}")
