"""What a network's values and weights are while it runs for all tasks at once.

A value inside a network is kept in one of three layouts, and each rule takes the one that suits it:
by task   [T, n, …]            a row per example;
grouped   [n, T·C, …]          tasks side by side in the channel axis, as a grouped convolution wants them;
last      [T, n, H, W, C]      channels last, as the CPU kernels want them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Layout = Literal["task", "grouped", "last"]


class NoRule(Exception):  # noqa: N818 - it ends the search for rules and is no error
    """A network has an operation that no rule covers; the text names it."""


@dataclass(frozen=True)
class Value:
    """A tensor over tasks in one of the three layouts."""

    tensor: Tensor
    tasks: int
    layout: Layout = "task"

    @property
    def examples(self) -> int:
        """Return how many examples each task has."""
        return self.tensor.shape[0 if self.layout == "grouped" else 1]

    @property
    def shape(self) -> torch.Size:
        """Return the shape that the network's own code sees, for one task: [n, …]."""
        first, *rest = self.tensor.shape
        if self.layout == "task":
            return torch.Size(rest)
        if self.layout == "last":
            n, *plane, channels = rest
            return torch.Size((n, channels, *plane))
        return torch.Size((first, rest[0] // self.tasks, *rest[1:]))

    def by_task(self) -> Tensor:
        """Return [T, n, …]; a view where the layout allows it."""
        if self.layout == "task":
            return self.tensor
        if self.layout == "last":
            return self.tensor.movedim(-1, 2)
        n, channels, *rest = self.tensor.shape
        return self.tensor.view(n, self.tasks, channels // self.tasks, *rest).transpose(0, 1)

    def in_groups(self) -> Tensor:
        """Return [n, T·C, …]."""
        if self.layout == "grouped":
            return self.tensor
        return self.by_task().transpose(0, 1).flatten(1, 2)

    def channels_last(self) -> Tensor:
        """Return [T, n, …, C]."""
        return self.tensor if self.layout == "last" else self.by_task().movedim(2, -1)

    def rows(self) -> Tensor:
        """Return [T·n, …]."""
        return self.by_task().flatten(0, 1)

    def like(self, tensor: Tensor) -> Value:
        """Return another tensor in the same layout."""
        return Value(tensor, self.tasks, self.layout)

    def from_rows(self, rows: Tensor) -> Value:
        """Return these rows [T·n, …] as a value."""
        return Value(rows.view(self.tasks, -1, *rows.shape[1:]), self.tasks)


@dataclass(frozen=True)
class Weights:
    """One layer's parameters: each task's own [T, …], or shared by all tasks."""

    own: Mapping[str, Tensor]
    shared: Mapping[str, Tensor]

    def per_task(self, name: str, tasks: int) -> Tensor | None:
        """Return [T, …], or None where the layer has no such parameter."""
        if name in self.own:
            return self.own[name]
        shared = self.shared.get(name)
        return None if shared is None else shared.expand(tasks, *shared.shape)

    @property
    def are_shared(self) -> bool:
        """Return whether every parameter is the same for all tasks."""
        return not self.own


@dataclass(frozen=True)
class Context:
    """What a rule may depend on besides its input.

    statistics: batch norm takes its statistics from that many first examples of each task; None: all.
    cancelled_bias: the normalisation that follows cancels a bias that is added here.
    relu: this batch norm also computes the ReLU that follows it.
    """

    statistics: int | None = None
    cancelled_bias: bool = False
    relu: bool = False
