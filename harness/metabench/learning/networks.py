"""Networks as learners use them: in two parts, and built for a cell."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from metabench.contracts import Network
from metabench.device.device import Device
from metabench.errors import Invalid
from metabench.records.cell import Workload
from metabench.records.protocol import Protocol, VariedProtocol

WAY_IN = (
    "return metabench.learning.with_head(module, 'fc', outputs) from build, with the name of the module's "
    "last layer in place of 'fc'; or metabench.learning.Headed(features, width, outputs)"
)
"""What to do with a module that is not in two parts."""


class Headed(nn.Module):
    """A network in two parts: `.features` [n, *input] → [n, d] and `.head` [n, d] → [n, outputs].

    outputs: None leaves the head out (`nn.Identity`), for learners that compare features.
    """

    def __init__(self, features: nn.Module, width: int, outputs: int | None) -> None:
        super().__init__()
        self.features = features
        self.head: nn.Module = nn.Identity() if outputs is None else nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, *input] to [n, outputs], or to [n, d] without a head."""
        y: Tensor = self.head(self.features(x))
        return y


def with_head(module: nn.Module, layer: str, outputs: int | None) -> Headed:
    """Return any module in two parts, of which the head is its last layer, named by its place in the module.

    layer: the name of a linear layer that is run last, such as "fc" or "classifier.1"; outputs: None leaves
    the head out. The layer is the head where it has that many outputs, else a new one is. It is taken out of
    `module`, which becomes `.features`. Raises Invalid where there is no such layer.
    """
    layers = dict(module.named_modules())
    last = layers.get(layer)
    if not isinstance(last, nn.Linear):
        linear = [name for name, other in layers.items() if isinstance(other, nn.Linear)]
        raise Invalid(
            f"{type(module).__name__} has no linear layer {layer!r} to be its head; it has "
            f"{', '.join(map(repr, linear)) or 'none'}"
        )
    owner, _, name = layer.rpartition(".")
    setattr(module.get_submodule(owner), name, nn.Identity())
    headed = Headed(module, last.in_features, outputs)
    headed.head.to(last.weight)
    if outputs == last.out_features:
        headed.head = last
    return headed


def build_network(
    algorithm: str, network: Network | None, workload: Workload, device: Device, outputs: int | None
) -> nn.Module:
    """Return the cell's network on the device, without a head where `outputs` is None.

    Raises Invalid where the cell names no network, where the network refuses the input, or where its module
    is not in two parts.
    """
    if network is None:
        raise Invalid(f"{algorithm} needs a network: name one in the cell, e.g. network = 'conv4'")
    module = network.build(workload.facts.input_shape, outputs)
    for part in ("features", "head"):
        if not isinstance(getattr(module, part, None), nn.Module):
            raise Invalid(f"network {network.name!r}: its module has no .{part}; {WAY_IN}")
    return module.to(device.torch, device.dtype)


def fixed_ways(workload: Workload) -> int | None:
    """Return the ways of a test task; None where they differ from task to task."""
    test = workload.test
    return None if isinstance(test, VariedProtocol) and test.least_ways < test.ways else test.ways


def equal_ways(workload: Workload) -> int | None:
    """Return the ways of every task, in training and in the test; None where they differ."""
    train, test = workload.train, workload.test
    varied = [p for p in (train, test) if isinstance(p, VariedProtocol) and p.least_ways < p.ways]
    differs = isinstance(train, Protocol) and train.ways != test.ways
    return None if varied or differs else test.ways


def require_equal_ways(algorithm: str, workload: Workload) -> None:
    """Raise Invalid where training tasks have other ways than the test's, for a head of fixed size."""
    train, test = workload.train, workload.test
    if isinstance(train, Protocol) and train.ways != test.ways:
        raise Invalid(
            f"{algorithm} has a head of fixed size: training with {train.ways} ways does not fit a test "
            f"with {test.ways}; give both the same ways"
        )


def output_shape(module: nn.Module, workload: Workload, device: Device) -> tuple[int, ...]:
    """Return the shape of the module's output for one input of this workload."""
    inputs = torch.zeros(2, *workload.facts.input_shape, device=device.torch, dtype=device.dtype)
    with torch.no_grad():
        return tuple(module(inputs).shape[1:])


def map_shape(module: nn.Module, workload: Workload, device: Device) -> tuple[int, int, int] | None:
    """Return channels, height and width of the maps that `module.features` flattens in the end.

    None where its last layer is no `nn.Flatten` of maps.
    """
    features = module.get_submodule("features")
    if not isinstance(features, nn.Sequential) or not isinstance(features[-1], nn.Flatten):
        return None
    shape = output_shape(features[:-1], workload, device)
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else None


def feature_width(module: nn.Module, workload: Workload, device: Device) -> int:
    """Return how many features `module.features` has for one input of this workload."""
    return math.prod(output_shape(module.get_submodule("features"), workload, device))
