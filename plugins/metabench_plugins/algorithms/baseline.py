"""Baseline: an ordinary classifier of meta-train whose last layer is fitted anew to each task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from metabench import Network, Preset, Workload, setting
from metabench.device import Device
from metabench.learning import SupervisedAlgorithm, SupervisedLearner, fit_head


@dataclass(frozen=True, kw_only=True)
class Baseline(SupervisedAlgorithm):
    """Trains a classifier on meta-train, freezes its features and fits a new linear head to each task.

    W.-Y. Chen et al.: A Closer Look at Few-shot Classification, ICLR 2019, section 3.2 (Baseline). The
    head takes gradient steps with momentum 0.9, dampening 0.9 and weight decay. Departures: 100 steps see
    the whole support set at rate 0.1, where the authors' code makes 100 passes over it in batches of four
    at 0.01; meta-training is at rate 3e-3 where that code has 1e-3; the head starts from zero, so that a
    task's prediction does not depend on a seed. As there batch norm takes a batch's own statistics in
    training and those of meta-train in the test.
    """

    name: ClassVar[str] = "baseline"
    presets: ClassVar[Mapping[str, Preset]] = {
        "chen2019": Preset(
            "Chen et al. 2019, section 4.2",
            {"rate": 0.001},
            'network = "conv4", budget = {tasks = 16}',
        ),
    }

    head_steps: int = setting(100, "gradient steps that fit the head to a task", at_least=0)
    head_rate: float = setting(0.1, "learning rate of the head", above=0)
    head_decay: float = setting(1e-3, "weight decay of the head", at_least=0)

    def build(self, workload: Workload, network: Network | None, device: Device) -> "BaselineLearner":
        """Build the learner of an embedding and of a linear classifier of meta-train's classes."""
        module, width, classes = self.parts(workload, network, device)
        classifier = nn.Linear(width, classes).to(device.torch, device.dtype)
        return BaselineLearner(self, module, classifier, workload)


class BaselineLearner(SupervisedLearner):
    """A linear head per task, on frozen features."""

    def __init__(
        self, settings: Baseline, module: nn.Module, classifier: nn.Module, workload: Workload
    ) -> None:
        super().__init__(settings, module, classifier, workload)
        self.settings = settings

    def fit(self, features: Tensor, y: Tensor, ways: int) -> dict[str, Tensor]:
        """Return the head's weights: "weight" [T, ways, d], "bias" [T, 1, ways]."""
        return self.fit_by_steps(features, y, ways, None)

    def fit_by_steps(self, features: Tensor, y: Tensor, ways: int, steps: int | None) -> dict[str, Tensor]:
        """Return the head's weights after `steps` gradient steps on each task's embedded support set."""
        tasks, _, d = features.shape
        frozen = features.detach()
        head = {"weight": features.new_zeros(tasks, ways, d), "bias": features.new_zeros(tasks, 1, ways)}
        return fit_head(
            lambda weights: self.score(dict(weights), frozen),
            head,
            y,
            steps=self.settings.head_steps if steps is None else steps,
            rate=self.settings.head_rate,
            decay=self.settings.head_decay,
        )

    def score(self, fitted: dict[str, Tensor], features: Tensor) -> Tensor:
        """Return class scores [T, q, ways]."""
        return torch.baddbmm(fitted["bias"], features, fitted["weight"].mT)
