"""SimpleShot: nearest class mean on centred, normalised features of an ordinary classifier."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Examples, Network, Preset, Workload, setting
from metabench.device import Device
from metabench.learning import SupervisedAlgorithm, SupervisedLearner, class_means, squared_distances
from metabench.records import DataKind, Outputs


@dataclass(frozen=True, kw_only=True)
class SimpleShot(SupervisedAlgorithm):
    """Trains a classifier on meta-train, then predicts the nearest class mean of its features.

    Y. Wang, W.-L. Chao, K. Weinberger, L. van der Maaten: SimpleShot: Revisiting Nearest-Neighbor
    Classification for Few-Shot Learning, 2019, section 2. As in the paper batch norm takes a batch's own
    statistics in training and those of meta-train in the test. Departures: Adam instead of SGD with step
    decay; batches of 16 (256 in the authors' code); the mean of meta-train is taken over `centre_batches` of
    its images, augmented as in training, where that code takes all of them as they are.
    No loss has scaled the distances to the class means: metrics of probabilities are refused.
    """

    name: ClassVar[str] = "simpleshot"
    presets: ClassVar[Mapping[str, Preset]] = {
        "wang2019": Preset(
            "Wang et al. 2019, section 3.1: batches of 256",
            {"micro": 256},
            'dataset = "mini-imagenet", network = "conv4", budget = {tasks = 256}',
        ),
    }

    transform: str = setting(
        "CL2N",
        "of features: UN, none; L2N, to unit length; CL2N, minus the mean of meta-train, then to unit length",
        choices=["UN", "L2N", "CL2N"],
    )
    centre_batches: int = setting(32, "micro-batches of meta-train that give its mean", at_least=1)

    def predicts(self, kind: DataKind) -> Outputs:
        """Return "scores": training never sees the distances that classify a task."""
        return "scores"

    def build(self, workload: Workload, network: Network | None, device: Device) -> "SimpleShotLearner":
        """Build the learner of an embedding and of a linear classifier of meta-train's classes."""
        module, width, classes = self.parts(workload, network, device)
        classifier = nn.Linear(width, classes).to(device.torch, device.dtype)
        return SimpleShotLearner(self, module, classifier, workload, width)


class SimpleShotLearner(SupervisedLearner):
    """Class means of transformed features; `finish` takes the mean feature of meta-train."""

    outputs = "scores"

    def __init__(
        self, settings: SimpleShot, module: nn.Module, classifier: nn.Linear, workload: Workload, width: int
    ) -> None:
        super().__init__(settings, module, classifier, workload)
        self.settings = settings
        self.computed["centre"] = classifier.weight.new_zeros(width)

    @property
    def centre(self) -> Tensor:
        """Return the mean feature of meta-train, [d]; zeros before `finish`."""
        return self.computed["centre"]

    def finish(self, batches: Iterator[Examples]) -> None:
        """Measure the statistics of meta-train, then its mean feature over the next micro-batches."""
        super().finish(batches)
        if self.settings.transform == "CL2N":
            with torch.no_grad():
                batches = islice(batches, self.settings.centre_batches)
                features = [self.embed(batch.x[None]) for batch in batches]
                self.computed["centre"] = torch.cat(features, 1).mean((0, 1))

    def fit(self, features: Tensor, y: Tensor, ways: int) -> Tensor:
        """Return the class means [T, ways, d] of the transformed support features."""
        return class_means(self._transformed(features), y, ways)

    def score(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Return minus the squared Euclidean distances to the class means, [T, q, ways] (equation 2)."""
        return -squared_distances(self._transformed(features), fitted)

    def _transformed(self, features: Tensor) -> Tensor:
        if self.settings.transform == "UN":
            return features
        return F.normalize(features - self.centre, dim=2)
