"""Base classes of transfer learners: supervised training of an embedding on all classes of meta-train."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metabench.contracts import Episodes, Examples, Network
from metabench.device.device import Device
from metabench.errors import Invalid
from metabench.learning.embedding import EmbeddingLearner, FeatureAlgorithm
from metabench.learning.losses import mean_gradient, task_losses
from metabench.learning.networks import feature_width
from metabench.records.cell import Workload
from metabench.records.protocol import Batches, Protocol
from metabench.settings import setting

MOMENTUM = 0.9
DAMPENING = 0.9


@dataclass(frozen=True, kw_only=True)
class SupervisedAlgorithm(FeatureAlgorithm):
    """The settings of supervised training on the classes of meta-train."""

    rate: float = setting(3e-3, "learning rate of Adam", above=0)
    micro: int = setting(16, "labelled examples that share batch norm's statistics in training", at_least=2)

    def train_protocol(self, test: Protocol) -> Batches:
        """Return labelled examples, as many a step as the budget has tasks, in micro-batches."""
        return Batches(self.micro, self.micro)

    def parts(
        self, workload: Workload, network: Network | None, device: Device
    ) -> tuple[nn.Module, int, int]:
        """Return the embedding, its width, and the number of meta-train's classes.

        Raises Invalid where that number is endless or below two, or where the cell names no network.
        """
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

    Both are frozen in the test: write `fit` and `score`, which classify a task's embedded examples. Their
    scores are logits where a cross entropy fits them to the task; otherwise set `outputs` to "scores".
    """

    def __init__(
        self, settings: SupervisedAlgorithm, module: nn.Module, classifier: nn.Module, workload: Workload
    ) -> None:
        super().__init__(settings, module, workload, training_head=classifier)
        self.classifier = classifier

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Leave the gradient of the mean cross entropy; return the losses of the micro-batches."""
        assert isinstance(batch, Examples)
        with self.lifted.training():
            return mean_gradient(self.parameters(), self._class_losses, batch)

    def _class_losses(self, batch: Examples) -> Tensor:
        return task_losses("classification", self.classifier(self.embed(batch.x)), batch.y)


def fit_head(
    scores: Callable[[Mapping[str, Tensor]], Tensor],
    weights: dict[str, Tensor],
    y: Tensor,
    *,
    steps: int,
    rate: float,
    decay: float,
) -> dict[str, Tensor]:
    """Return each task's head after `steps` steps of SGD with momentum on its own support set.

    scores: weights → class scores [T, n, ways]; weights: [T, …] by name; y: [T, n]. Momentum 0.9 with
    dampening 0.9 and a weight decay, as in the code of A Closer Look at Few-shot Classification; as with
    `torch.optim.SGD` there, the first step is not dampened.
    """
    velocity: dict[str, Tensor] = {}
    for _ in range(steps):
        with torch.enable_grad():
            leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
            loss = task_losses("classification", scores(leaves), y).sum()
            gradients = torch.autograd.grad(loss, list(leaves.values()))
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            decayed = gradient + decay * weight
            if name in velocity:
                velocity[name] = MOMENTUM * velocity[name] + (1 - DAMPENING) * decayed
            else:
                velocity[name] = decayed
            weights = {**weights, name: weight - rate * velocity[name]}
    return weights
