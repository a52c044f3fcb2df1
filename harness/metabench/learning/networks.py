"""Networks as learners use them: in two parts, and built for a cell."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from metabench.contracts import Network
from metabench.device.device import Device
from metabench.errors import Invalid
from metabench.records.cell import Protocol, Workload


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


def build_network(
    algorithm: str, network: Network | None, workload: Workload, device: Device, outputs: int | None
) -> nn.Module:
    """Return the cell's network on the device, without a head where `outputs` is None.

    Raises Invalid where the cell names no network, or where the network refuses the input.
    """
    if network is None:
        raise Invalid(f"{algorithm} needs a network: name one in the cell, e.g. network = 'conv4'")
    return network.build(workload.facts.input_shape, outputs).to(device.torch, device.dtype)


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


def feature_width(module: nn.Module, workload: Workload, device: Device) -> int:
    """Return how many features `module.features` has for one input of this workload."""
    return math.prod(output_shape(module.get_submodule("features"), workload, device))
