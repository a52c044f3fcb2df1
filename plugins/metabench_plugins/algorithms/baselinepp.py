"""Baseline++: a classifier by cosine similarity, trained on meta-train and fitted anew to each task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Network, Preset, Workload, setting
from metabench.device import Device
from metabench.learning import SupervisedAlgorithm, SupervisedLearner, cosines, fit_head

FEW_CLASSES = 200
FEW_CLASSES_SCALE, MANY_CLASSES_SCALE = 2.0, 10.0
"""Factors of the cosines in the authors' code, of heads with up to 200 classes and with more."""


@dataclass(frozen=True, kw_only=True)
class BaselinePlusPlus(SupervisedAlgorithm):
    """As `baseline`, with heads that compare directions: a class score is a scaled cosine.

    W.-Y. Chen et al.: A Closer Look at Few-shot Classification, ICLR 2019, section 3.2 (Baseline++), which
    makes the features of a class vary less. As in the authors' code cosines are scaled by 2 in a head of up
    to 200 classes, so in that of every task, and by 10 in a larger one. Departures as for `baseline`, with
    three differences: the head's rate is 1, at which 100 steps on the whole support set score as the class
    means of the same features do (0.01 in that code, in batches of four); every direction counts by its angle
    alone, where that code also learns a norm for each class (WeightNorm); the head of a task starts from
    weights sampled by the cell's seed, the same for every task, since a cosine has no gradient at zero.
    """

    name: ClassVar[str] = "baseline++"
    presets: ClassVar[Mapping[str, Preset]] = {
        "chen2019": Preset(
            "Chen et al. 2019, section 4.2",
            {"rate": 0.001},
            'network = "conv4", budget = {tasks = 16}',
        ),
    }

    scale: float | None = setting(
        None, "factor of the cosines in training; none: 2 up to 200 classes of meta-train, else 10", above=0
    )
    head_scale: float = setting(2.0, "factor of the cosines in the head of a task", above=0)
    head_steps: int = setting(100, "gradient steps that fit the head to a task", at_least=0)
    head_rate: float = setting(1.0, "learning rate of the head", above=0)
    head_decay: float = setting(1e-3, "weight decay of the head", at_least=0)

    def build(self, workload: Workload, network: Network | None, device: Device) -> "BaselinePlusPlusLearner":
        """Build the learner of an embedding and of a cosine classifier of meta-train's classes."""
        module, width, classes = self.parts(workload, network, device)
        scale = self.scale or (FEW_CLASSES_SCALE if classes <= FEW_CLASSES else MANY_CLASSES_SCALE)
        classifier = CosineHead(width, classes, scale).to(device.torch, device.dtype)
        return BaselinePlusPlusLearner(self, module, classifier, workload, width)


class CosineHead(nn.Module):
    """Scaled cosines of an example's features with one direction for each class."""

    def __init__(self, width: int, classes: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, width) / width**0.5)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """Return class scores [..., classes] of features [..., d]."""
        return self.scale * F.linear(F.normalize(features, dim=-1), F.normalize(self.weight, dim=-1))


class BaselinePlusPlusLearner(SupervisedLearner):
    """A cosine head per task, on frozen features."""

    def __init__(
        self,
        settings: BaselinePlusPlus,
        module: nn.Module,
        classifier: CosineHead,
        workload: Workload,
        width: int,
    ) -> None:
        super().__init__(settings, module, classifier, workload)
        self.settings = settings
        generator = torch.Generator().manual_seed(workload.seed)
        weights = torch.randn(workload.test.ways, width, generator=generator)
        self.start = (weights / width**0.5).to(classifier.weight)

    def fit(self, features: Tensor, y: Tensor, ways: int) -> Tensor:
        """Return the head's directions [T, ways, d]."""
        return self.fit_by_steps(features, y, ways, None)

    def fit_by_steps(self, features: Tensor, y: Tensor, ways: int, steps: int | None) -> Tensor:
        """Return the head's directions after `steps` gradient steps on each task's embedded support set."""
        frozen = features.detach()
        start = self.start[:ways]
        head = {"weight": start.expand(len(features), *start.shape)}
        fitted = fit_head(
            lambda weights: self.score(weights["weight"], frozen),
            head,
            y,
            steps=self.settings.head_steps if steps is None else steps,
            rate=self.settings.head_rate,
            decay=self.settings.head_decay,
        )
        return fitted["weight"]

    def score(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Return scaled cosines [T, q, ways]."""
        return self.settings.head_scale * cosines(features, fitted)
