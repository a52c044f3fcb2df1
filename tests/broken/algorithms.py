"""The algorithms that build faulty learners, and two that wrongly say that every seed gives the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from broken.learners import LEARNERS, Means
from metabench import Algorithm, Examples, Invalid, Network, setting
from metabench.device import Device
from metabench.learning import Headed, UntrainedLearner
from metabench.records import DataKind, Outputs


@dataclass(frozen=True, kw_only=True)
class FaultyAlgorithm(Algorithm):
    """The nearest class mean, with a fault."""

    name: ClassVar[str] = "faulty"
    fault: str = setting("Means", "which")

    def train_protocol(self, test: Any) -> Any:
        return {"TrainsNothing": None, "OddProtocol": "5-way"}.get(self.fault, test)

    def predicts(self, kind: DataKind) -> Outputs | None:
        return "scores" if self.fault == "StatesOtherOutputs" else None

    def build(self, workload: Any, network: Network | None, device: Device) -> Means:
        if getattr(workload.train, "ways", workload.test.ways) != workload.test.ways:
            raise Invalid("faulty: train with the test's ways")
        if network is None and self.fault != "NeedsNoNetwork":
            raise Invalid("faulty: name a network")
        if self.fault == "SwallowsInvalid":
            try:
                module = network.build(workload.facts.input_shape, None)  # type: ignore[union-attr]
            except Invalid:
                module = Headed(nn.Sequential(nn.Flatten(), nn.Linear(16, 6)), 6, None)
        else:
            assert network is not None
            module = network.build(workload.facts.input_shape, None)
        module = module.to(device.torch, device.dtype)
        learner = LEARNERS.get(self.fault, Means)
        return learner(self.fault, module, workload.test.ways, device)


@dataclass(frozen=True, kw_only=True)
class SeededAlgorithm(FaultyAlgorithm):
    """Says that every seed gives the same, though the seed draws its weights and its tasks."""

    name: ClassVar[str] = "seeded"
    deterministic: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class SeededProjection(Algorithm):
    """Says that every seed gives the same, though the seed draws its projection; it trains nothing."""

    name: ClassVar[str] = "seeded-projection"
    needs_network: ClassVar[bool] = False
    deterministic: ClassVar[bool] = True

    def train_protocol(self, test: Any) -> None:
        return None

    def build(self, workload: Any, network: Network | None, device: Device) -> Projected:
        return Projected(workload, device)


class Projected(UntrainedLearner):
    """The nearest class mean of randomly projected inputs."""

    outputs: Outputs = "scores"

    def __init__(self, workload: Any, device: Device) -> None:
        generator = torch.Generator().manual_seed(workload.seed)
        drawn = torch.randn(math.prod(workload.facts.input_shape), 4, generator=generator)
        self.projection = drawn.to(device.torch, device.dtype)
        self.ways = workload.test.ways

    def adapt(self, support: Examples, steps: int | None = None) -> Tensor:
        one_hot = nn.functional.one_hot(support.y, self.ways).to(support.x.dtype)
        return one_hot.mT @ (support.x.flatten(2) @ self.projection) / one_hot.sum(1)[..., None]

    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        projected = query_x.flatten(2) @ self.projection
        return -(projected[:, :, None] - state[:, None]).square().sum(3)
