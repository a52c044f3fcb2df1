"""Prototypical networks: a class is the mean of its embedded examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metabench import Network, Preset, Protocol, Workload, setting
from metabench.device import Device
from metabench.learning import (
    EmbeddingLearner,
    EpisodicAlgorithm,
    class_means,
    squared_distances,
)


@dataclass(frozen=True, kw_only=True)
class ProtoNet(EpisodicAlgorithm):
    """Classifies by the nearest class mean in a learned embedding.

    J. Snell, K. Swersky, R. Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017, with
    squared Euclidean distance. As in the paper, tasks of training may have more ways than those of the
    test. As in the authors' code batch norm takes the statistics of a task's support and queries in one batch
    in training, and those of meta-train in the test. Departures: a step takes a batch of tasks, each with
    statistics of its own, where that code has one task per step and running statistics; the rate is constant
    unless `halve_every` says otherwise (2,000 there).
    """

    name: ClassVar[str] = "protonet"
    presets: ClassVar[Mapping[str, Preset]] = {
        "snell2017": Preset(
            "Snell et al. 2017, section 3.1, and the authors' code",
            {"train_ways": 60, "train_queries": 5, "halve_every": 2000},
            'dataset = "omniglot", network = {name = "conv4", downsample = "pool", '
            'readout = "flatten"}, budget = {tasks = 1}',
        ),
        "snell2017-mini-imagenet-1shot": Preset(
            "Snell et al. 2017, section 3.2",
            {"train_ways": 30, "train_queries": 15, "halve_every": 2000},
            'dataset = "mini-imagenet", network = "conv4", budget = {tasks = 1}',
        ),
        "snell2017-mini-imagenet-5shot": Preset(
            "Snell et al. 2017, section 3.2",
            {"train_ways": 20, "train_queries": 15, "halve_every": 2000},
            'dataset = "mini-imagenet", network = "conv4", budget = {tasks = 1}',
        ),
    }

    train_queries: int = setting(0, "queries a class in training; 0: as in the test", at_least=0)

    def train_protocol(self, test: Protocol) -> Protocol:
        """Return the test's protocol with this algorithm's own ways and queries."""
        protocol = super().train_protocol(test)
        return protocol.with_queries(self.train_queries) if self.train_queries else protocol

    def build(self, workload: Workload, network: Network | None, device: Device) -> "ProtoNetLearner":
        """Build the learner of an embedding: the network without its head."""
        return ProtoNetLearner(self, self.embedding(workload, network, device), workload)


class ProtoNetLearner(EmbeddingLearner):
    """Prototypes and the distances to them."""

    def fit(self, features: Tensor, y: Tensor, ways: int) -> Tensor:
        """Return the prototypes [T, ways, d] (equation 1)."""
        return class_means(features, y, ways)

    def score(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Return minus the squared distances to the prototypes, [T, q, ways]; their softmax is equation 2."""
        return -squared_distances(features, fitted)
