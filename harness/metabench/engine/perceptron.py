"""Which networks are perceptrons: linear layers with ReLU between them, which kernels run as a whole.

A step of so small a network takes less time than a call of an operation, of which it has a hundred.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

MOST_LAYERS = 16
MOST_WEIGHTS = 32_768
"""Weights of a perceptron whose matrices and activations stay in a second-level cache, task by task; a larger
one is quicker in products over all tasks."""

RELUS = (F.relu, torch.relu, "relu", "relu_")


class Perceptron(NamedTuple):
    """A network as layers: the names of their weights and biases in turn, and the widths between them."""

    names: tuple[str, ...]
    widths: tuple[int, ...]

    def reads(self, x: Tensor) -> bool:
        """Return whether x is [T, n, *input] of the network's input."""
        return math.prod(x.shape[2:]) == self.widths[0]

    def fits(self, x: Tensor, weights: Mapping[str, Tensor], tasks: tuple[int, ...]) -> bool:
        """Return whether it reads x and `weights` are all of the network's; tasks: axes before their own."""
        shapes = [(*tasks, *shape) for i, o in pairwise(self.widths) for shape in ((o, i), (o,))]
        return (
            self.reads(x)
            and weights.keys() == set(self.names)
            and all(weights[name].shape == shape for name, shape in zip(self.names, shapes, strict=True))
        )


class Operation(NamedTuple):
    """One operation of a network: its layer and the names of the layer's parameters, or None and none."""

    node: fx.Node
    layer: nn.Module | None
    parameters: Mapping[str, str]


def perceptron_of(
    operations: Sequence[Operation], ends: tuple[fx.Node, fx.Node], weights: Mapping[str, Tensor]
) -> Perceptron | None:
    """Return the network as a perceptron, or None where it is none, or too large a one.

    ends: the nodes of the input and of the output; weights: the network's, by name.
    """
    before, output = ends
    names: list[str] = []
    widths: list[int] = []
    expected: type[nn.Module] = nn.Linear
    for operation in operations:
        kind = _kind(operation)
        if operation.node.all_input_nodes != [before]:
            return None
        before = operation.node
        if kind in (nn.Identity, nn.Dropout) or (kind is nn.Flatten and not widths):
            continue
        if kind is not expected:
            return None
        expected = nn.ReLU if kind is nn.Linear else nn.Linear
        if isinstance(operation.layer, nn.Linear):
            if set(operation.parameters) != {"weight", "bias"}:
                return None
            names += operation.parameters["weight"], operation.parameters["bias"]
            widths += [operation.layer.out_features] if widths else _sides(operation.layer)
    if before is not output or expected is not nn.ReLU or len(set(names)) < len(names):
        return None
    size = sum(weights[name].numel() for name in names)
    return (
        Perceptron(tuple(names), tuple(widths))
        if size <= MOST_WEIGHTS and len(widths) <= MOST_LAYERS
        else None
    )


def _sides(layer: nn.Linear) -> list[int]:
    return [layer.in_features, layer.out_features]


def _kind(operation: Operation) -> type[nn.Module] | None:
    if operation.layer is not None:
        whole = not isinstance(operation.layer, nn.Flatten) or (
            (operation.layer.start_dim, operation.layer.end_dim) == (1, -1)
        )
        return type(operation.layer) if whole else None
    node = operation.node
    plain = len(node.args) == 1 and set(node.kwargs) <= {"inplace"}
    return nn.ReLU if node.target in RELUS and plain else None
