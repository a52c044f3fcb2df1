"""Anchored means: class means, each pulled towards the mean of its task by a learned weight."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Algorithm, Episodes, Examples, Network, Workload, setting
from metabench.device import Device
from metabench.engine import lift
from metabench.learning import ModuleLearner, build_network, mean_gradient, require_equal_ways, task_losses


@dataclass(frozen=True, kw_only=True)
class Anchor(Algorithm):
    """Classifies by the nearest class mean, after pulling each mean towards the task's own."""

    name: ClassVar[str] = "anchor"
    rate: float = setting(1e-2, "learning rate of Adam", above=0)
    pull: float = setting(0.1, "weight of the task's mean that training starts from", at_least=0, at_most=1)

    def build(self, workload: Workload, network: Network | None, device: Device) -> "AnchorLearner":
        require_equal_ways(self.name, workload)
        module = nn.Module()
        module.net = build_network(self.name, network, workload, device, outputs=None)
        module.pull = nn.Parameter(torch.tensor(self.pull))
        return AnchorLearner(module.to(device.torch, device.dtype), workload.test.ways, self.rate)


class AnchorLearner(ModuleLearner):
    """One embedding, one weight; every tensor has the task axis first."""

    outputs = "logits"  # the loss is the cross entropy of what `predict` returns

    def __init__(self, module: nn.Module, ways: int, rate: float) -> None:
        super().__init__(module, torch.optim.Adam(module.parameters(), rate))
        self.ways = ways
        self.embed = lift(module.get_submodule("net"))  # runs the network over all tasks at once
        self.transductive = self.embed.batch_statistics  # batch norm lets queries see each other

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        assert isinstance(batch, Episodes)
        return mean_gradient(self.parameters(), self.losses, batch)

    def losses(self, batch: Episodes) -> Tensor:
        scores = self.predict(self.adapt(batch.support), batch.query.x)  # [T, q, ways]
        return task_losses("classification", scores, batch.query.y)  # [T]

    def adapt(self, support: Examples, steps: int | None = None) -> Tensor:
        features = self.embed(support.x, part="features")  # [T, n, d]
        members = F.one_hot(support.y, self.ways).to(features.dtype).mT  # [T, ways, n]
        means = members @ features / members.sum(2, keepdim=True)
        return means + self.module.get_parameter("pull") * (features.mean(1, keepdim=True) - means)

    def predict(self, state: Tensor, query_x: Tensor) -> Tensor:
        features = self.embed(query_x, part="features")
        return -(features[:, :, None] - state[:, None]).square().sum(3)
