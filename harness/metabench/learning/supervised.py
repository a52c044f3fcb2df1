"""What transfer learners share: supervised training of an embedding on all classes of meta-train."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metabench import Batches, Episodes, Examples, Invalid, Network, Protocol, Workload, setting
from metabench.device.device import Device
from metabench.learning.base import mean_gradient, task_losses
from metabench.learning.embedding import (
    EmbeddingAlgorithm,
    EmbeddingLearner,
    feature_width,
)

QUERIES = ("together", "alone")
QUERIES_HELP = (
    "how batch norm treats the queries of a test task: 'together', by the statistics of all of them, which "
    "is transductive; 'alone', by those of its support set, so that no query sees another"
)


@dataclass(frozen=True, kw_only=True)
class SupervisedAlgorithm(EmbeddingAlgorithm):
    """The settings of supervised training on the classes of meta-train."""

    rate: float = setting(3e-3, "learning rate of Adam", above=0)
    micro: int = setting(16, "labelled examples that share batch norm's statistics in training", at_least=2)
    queries: str = setting("together", QUERIES_HELP, choices=QUERIES)

    def train_protocol(self, test: Protocol) -> Batches:
        """Labelled examples, as many a step as the budget has tasks, in micro-batches."""
        return Batches(self.micro, self.micro)

    def parts(
        self, workload: Workload, network: Network | None, device: Device
    ) -> tuple[nn.Module, int, int]:
        """The embedding, its width, and the number of meta-train's classes; Invalid without."""
        classes = workload.facts.classes.get("train", 0)
        if classes < 2:
            raise Invalid(
                f"{self.name} classifies all classes of meta-train at once, and this data set has "
                f"{'endlessly many' if classes == 0 else classes}; it needs a finite number above one"
            )
        module = self.embedding(workload, network, device)
        return module, feature_width(module, workload, device), classes


class SupervisedLearner(EmbeddingLearner):
    """Trains the embedding, and a classifier of meta-train's classes on top, by cross entropy.

    Both are frozen in the test: write `fit` and `score` for what becomes of a task's embedded examples.
    """

    def __init__(
        self, settings: SupervisedAlgorithm, module: nn.Module, classifier: nn.Module, workload: Workload
    ) -> None:
        super().__init__(settings, module, workload, [classifier])
        self.classifier = classifier

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """The gradient of the mean cross entropy; returns the losses of the micro-batches."""
        assert isinstance(batch, Examples)
        return mean_gradient(self.parameters(), self._class_losses, batch)

    def _class_losses(self, batch: Examples) -> Tensor:
        return task_losses("classification", self.classifier(self.embed(batch.x)), batch.y)


def descend_head(
    scores: Callable[[Mapping[str, Tensor]], Tensor],
    weights: dict[str, Tensor],
    y: Tensor,
    *,
    steps: int,
    rate: float,
    decay: float,
) -> dict[str, Tensor]:
    """Each task's head after `steps` steps of gradient descent with momentum on its own support set.

    scores: weights → class scores [T, n, ways]; weights: [T, …] by name; y: [T, n]. Momentum 0.9 with
    dampening 0.9 and a weight decay, as in the code of A Closer Look at Few-shot Classification; like
    `torch.optim.SGD` there, the first step is not dampened.
    """
    velocity: dict[str, Tensor] = {}
    for _ in range(steps):
        with torch.enable_grad():
            held = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
            loss = task_losses("classification", scores(held), y).sum()
            slopes = torch.autograd.grad(loss, list(held.values()))
        for (name, weight), slope in zip(weights.items(), slopes, strict=True):
            pull = slope + decay * weight
            velocity[name] = 0.9 * velocity[name] + 0.1 * pull if name in velocity else pull
            weights = {**weights, name: weight - rate * velocity[name]}
    return weights
