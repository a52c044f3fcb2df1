"""The weights of many tasks as mappings that make a tensor for each name only when it is read.

Kernels for perceptrons read neither the copies of a starting point nor the tensors of adapted weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor

from metabench.engine.kernels import layer_kernels
from metabench.engine.kernels import perceptron as kernel
from metabench.engine.kernels.differentiable import for_tasks
from metabench.engine.perceptron import Perceptron

TaskWeights = Mapping[str, Tensor]


class StartingWeights(Mapping[str, Tensor]):
    """A module's weights for every task to start from: [T, …] by name, not copied.

    own: the weights by name, without a task axis; tasks: T.
    """

    def __init__(self, own: Mapping[str, Tensor], tasks: int) -> None:
        self.own, self.tasks = own, tasks
        self._expanded: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        """Return a weight for every task, [T, …]."""
        if name not in self._expanded:
            self._expanded[name] = _for_tasks(self.own[name], self.tasks)
        return self._expanded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.own)

    def __len__(self) -> int:
        return len(self.own)

    @property
    def unread(self) -> bool:
        """Return whether no weight [T, …] has been read, which might be asked for its gradient."""
        return not self._expanded


class PackedWeights(Mapping[str, Tensor]):
    """Weights that a kernel steps, in the layout in which it leaves them: [T, …] by name.

    steps, start: the kernel's, taken now where nothing is recorded, else when the weights are read: a loss
    that alone reads them takes the steps itself. perceptron: whose weights they are; order: of the names as
    the mapping has them.
    """

    def __init__(
        self, steps: kernel.Steps, start: kernel.Start, perceptron: Perceptron, order: tuple[str, ...]
    ) -> None:
        self.steps, self.start, self.perceptron, self.order = steps, start, perceptron, order
        self._packed = None if start.recorded else kernel.descend(steps, start)

    @property
    def packed(self) -> Tensor:
        """Return the weights after the steps in the kernel's layout, [T, size]."""
        if self._packed is None:
            with torch.enable_grad():
                self._packed = kernel.descend(self.steps, self.start)
        return self._packed

    @property
    def unread(self) -> bool:
        """Return whether the steps are not yet taken."""
        return self._packed is None

    def __getitem__(self, name: str) -> Tensor:
        """Return a weight of each task, [T, …]."""
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)

    def sums(self) -> dict[str, Tensor]:
        """Return the sum of each weight over the tasks."""
        values = self._unpacked(self.packed.sum(0, keepdim=True))
        by_name = dict(zip(self.perceptron.names, values, strict=True))
        return {name: by_name[name][0] for name in self.order}

    @cached_property
    def _by_name(self) -> dict[str, Tensor]:
        return dict(zip(self.perceptron.names, self._unpacked(self.packed), strict=True))

    def _unpacked(self, packed: Tensor) -> tuple[Tensor, ...]:
        return kernel.unpacked(self.steps.down.kernels, self.perceptron.widths, packed)


def tensors_of(weights: TaskWeights) -> tuple[Tensor, ...]:
    """Return the tensors that the weights lie in, without making others."""
    if isinstance(weights, PackedWeights):
        return weights.start.weights
    if isinstance(weights, StartingWeights) and weights.unread:
        return tuple(weights.own.values())
    return tuple(weights.values())


def sums_over_tasks(weights: TaskWeights) -> dict[str, Tensor]:
    """Return the sum of each weight [T, …] over the tasks."""
    if isinstance(weights, PackedWeights):
        return weights.sums()
    return {name: weight.sum(0) for name, weight in weights.items()}


def _for_tasks(weight: Tensor, tasks: int) -> Tensor:
    kernels = layer_kernels(weight) if weight.dim() == 4 else None
    return weight.expand(tasks, *weight.shape) if kernels is None else for_tasks(weight, tasks)
