"""The meta-steps that the speed benchmarks time: networks, learners and tasks of each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Episodes, Examples, Facts, Learner, Network, Protocol, Workload
from metabench.device import Device
from metabench_plugins.algorithms.maml import Maml
from metabench_plugins.algorithms.protonet import ProtoNet
from metabench_plugins.algorithms.reptile import Reptile
from metabench_plugins.networks.conv4 import Conv4
from metabench_plugins.networks.mlp import Mlp
from metabench_plugins.networks.resnet12 import ResNet12

WAYS = 5


@dataclass(frozen=True)
class Row:
    """One line of the table: what is learned, and the ratios wanted at least and aimed at."""

    title: str
    algorithm: str
    network: str
    shots: int
    steps: int
    first_order: bool
    at_least: float
    aim: float
    tasks: int = 32

    @property
    def regression(self) -> bool:
        """Whether the tasks are sinusoids; else they are images of five classes."""
        return self.network == "mlp"

    @property
    def rate(self) -> float:
        """The inner rate, small enough for a stable repetition."""
        return 0.01 if self.regression else 0.1


ROWS = {
    "sine-maml": Row("sine MLP, 5 steps, second order", "maml", "mlp", 10, 5, False, 16, 30),
    "sine-reptile": Row("sine MLP, Reptile", "reptile", "mlp", 10, 5, True, 18, 30),
    "conv-1shot": Row("Conv4 5-way 1-shot, 1 step, second order", "maml", "conv4", 1, 1, False, 1.7, 2.5),
    "conv-1shot-first": Row(
        "Conv4 5-way 1-shot, 5 steps, first order", "maml", "conv4", 1, 5, True, 2.0, 2.8
    ),
    "conv-5shot": Row("Conv4 5-way 5-shot, 1 step, second order", "maml", "conv4", 5, 1, False, 1.0, 1.5),
    "protonet": Row(
        "ProtoNet, 5-way 1-shot, per-task statistics", "protonet", "conv4", 1, 0, False, 1.0, 1.5
    ),
    "skips": Row("a stranger's network, skips, second order", "maml", "skips", 1, 1, False, 1.0, 1.5),
    "resnet12": Row("ResNet-12 (16), 1-shot, second order", "maml", "resnet12", 1, 1, False, 1.0, 1.5, 8),
}


class Skips(nn.Module):
    """A third party's residual network, as such code is written."""

    def __init__(self, channels: int, outputs: int, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, height, width] → [n, outputs]."""
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = x + F.relu(self.norms[0](self.first(x)))
        x = x + F.relu(self.norms[1](self.second(x)))
        y: Tensor = self.head(x.mean((2, 3)))
        return y


@dataclass(frozen=True, kw_only=True)
class SkipNetwork(Network):
    """`Skips` as a network of a cell."""

    name: ClassVar[str] = "skips"

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """The module for images of so many channels."""
        assert outputs is not None
        return Skips(input_shape[0], outputs)


NETWORKS: dict[str, Network] = {
    "mlp": Mlp(),
    "conv4": Conv4(),
    "resnet12": ResNet12(width=16),
    "skips": SkipNetwork(),
}


def learner_of(row: Row, execution: str = "eager", device: Device | None = None) -> Learner:
    """The learner that the harness would build; execution: how MAML's meta-step runs; device: not the CPU."""
    sine = row.regression
    facts = Facts("regression", (1,), 1) if sine else Facts("classification", (1, 28, 28))
    protocol = Protocol(1 if sine else WAYS, row.shots, row.shots)
    algorithm = {
        "maml": Maml(inner_rate=row.rate, steps=row.steps, first_order=row.first_order, execution=execution),
        "reptile": Reptile(inner_rate=row.rate, steps=row.steps),
        "protonet": ProtoNet(queries="joined"),  # one batch of support and queries, as the loop has it
    }[row.algorithm]
    torch.manual_seed(0)
    workload = Workload(facts, protocol, protocol, 10, row.tasks)
    return algorithm.build(workload, NETWORKS[row.network], device or Device())


def network_of(learner: Any) -> nn.Module:
    """The module that a learner lifts over tasks."""
    module: nn.Module = (learner.network if hasattr(learner, "network") else learner.lifted).module
    return module


def episodes_of(row: Row, device: Device | None = None) -> Episodes:
    """Sinusoids, or noisy images of random classes, on the device and in its type (float32 on the CPU).

    Every device and type gets the same tasks: they are drawn in float32 on the CPU.
    """
    place = device or Device()
    chance = torch.Generator().manual_seed(1)
    if row.regression:
        amplitude = torch.rand(row.tasks, 1, 1, generator=chance) * 4.9 + 0.1
        phase = torch.rand(row.tasks, 1, 1, generator=chance) * torch.pi
        x = torch.rand(row.tasks, 2 * row.shots, 1, generator=chance) * 10 - 5
        y = amplitude * torch.sin(x - phase)
        n = row.shots
        support, query = Examples(x[:, :n].contiguous(), y[:, :n].contiguous()), Examples(x[:, n:], y[:, n:])
        query = Examples(query.x.contiguous(), query.y.contiguous())
    else:
        y = torch.arange(WAYS).repeat_interleave(row.shots).expand(row.tasks, -1).contiguous()
        means = torch.randn(row.tasks, WAYS, 1, 28, 28, generator=chance).repeat_interleave(row.shots, 1)
        support, query = (
            Examples(means + 0.5 * torch.randn(means.shape, generator=chance), y.clone()) for _ in range(2)
        )
    support, query = (
        Examples(
            x.to(place.torch, place.dtype), y.to(place.torch, place.dtype if row.regression else y.dtype)
        )
        for x, y in (support, query)
    )
    return Episodes(
        support,
        query,
        torch.zeros(row.tasks, WAYS, device=place.torch),
        torch.arange(row.tasks, device=place.torch),
    )
