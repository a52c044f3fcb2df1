"""Conditional neural processes: a network reads the support set and predicts, without a gradient step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Episodes, Examples, Network, Preset, Workload, setting
from metabench.device import Device
from metabench.learning import (
    EmbeddingAlgorithm,
    EmbeddingLearner,
    class_means,
    feature_width,
    full_precision,
    mean_gradient,
    outputs_of,
    require_equal_ways,
    task_losses,
)


@dataclass(frozen=True, kw_only=True)
class Cnp(EmbeddingAlgorithm):
    """Summarises a task's support set in a vector, from which a decoder predicts every query.

    M. Garnelo et al.: Conditional Neural Processes, ICML 2018, equations 1 to 4. Regression: the decoder
    predicts a mean and a standard deviation, and the loss is the negative log-likelihood of support and
    queries, as in the paper. Classification (section 4.3): one summary per class, concatenated.
    Departures: the number of support points is the protocol's in every task, the paper samples it; inputs
    pass the cell's network first. The paper's has no batch norm; here it takes the statistics of a task's
    support and queries in one batch in training, and those of meta-train in the test.
    """

    name: ClassVar[str] = "cnp"
    any_ways: ClassVar[bool] = False
    kinds: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})
    presets: ClassVar[Mapping[str, Preset]] = {
        "garnelo2018": Preset(
            "the authors' notebook of regression",
            {"rate": 0.0001},
            'network = "mlp"',
        ),
    }

    width: int = setting(128, "width of the encoder, the summary and the decoder", at_least=1)
    rate: float = setting(3e-3, "learning rate of Adam", above=0)

    def build(self, workload: Workload, network: Network | None, device: Device) -> "CnpLearner":
        """Build the learner of the embedding, the encoder and the decoder."""
        require_equal_ways(self.name, workload)
        module = self.embedding(workload, network, device)
        features = feature_width(module, workload, device)
        regression = workload.facts.kind == "regression"
        targets = (
            workload.outputs if regression else 0
        )  # an encoder of classification reads one class at a time
        encoder = _layers(features + targets, self.width, self.width)
        summary = self.width if regression else self.width * workload.outputs
        outputs = 2 * workload.outputs if regression else workload.outputs
        decoder = _layers(features + summary, self.width, outputs)
        process = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
        return CnpLearner(self, module, process.to(device.torch, device.dtype), workload)


class CnpLearner(EmbeddingLearner):
    """Predicts g(x, r), with r the mean of h(xᵢ, yᵢ)."""

    def __init__(self, settings: Cnp, module: nn.Module, process: nn.ModuleDict, workload: Workload) -> None:
        super().__init__(settings, module, workload, [process])
        self.encoder, self.decoder = process["encoder"], process["decoder"]
        self.regression = workload.facts.kind == "regression"
        self.outputs = outputs_of(workload.facts.kind)

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Leave the gradient of support and queries' negative log-likelihood; return it per task, [T]."""
        assert isinstance(batch, Episodes)
        with self.lifted.training():
            return mean_gradient(self.parameters(), self._task_losses, batch)

    def _task_losses(self, batch: Episodes) -> Tensor:
        support, query = self.embed_both(batch.support.x, batch.query.x)
        with full_precision(support):
            return self._likelihood(support, query, batch)

    def _likelihood(self, support: Tensor, query: Tensor, batch: Episodes) -> Tensor:
        """Return the negative log-likelihood of each task, [T], from embedded support and queries."""
        summary = self.fit(support, batch.support.y, batch.classes.shape[1])
        decoded = self._decoded(summary, torch.cat([support, query], 1))
        target = torch.cat([batch.support.y, batch.query.y], 1)
        if not self.regression:
            return task_losses("classification", decoded, target)
        mean, raw = decoded.chunk(2, dim=2)
        deviation = 0.1 + 0.9 * F.softplus(raw)  # as in the paper's code: bounded below
        nll = F.gaussian_nll_loss(mean, target, deviation.square(), full=True, reduction="none")
        return nll.flatten(1).mean(1)

    def fit(self, features: Tensor, y: Tensor, ways: int) -> Tensor:
        """Return the summary r [T, width], or those of all classes, [T, ways · width] (equation 2)."""
        if self.regression:
            summary: Tensor = self.encoder(torch.cat([features, y], 2)).mean(1)
            return summary
        return class_means(self.encoder(features), y, ways).flatten(1)

    def score(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Return class scores [T, q, ways], or the means of the predicted values [T, q, outputs]."""
        decoded = self._decoded(fitted, features)
        return decoded.chunk(2, dim=2)[0] if self.regression else decoded

    def _decoded(self, summary: Tensor, features: Tensor) -> Tensor:
        beside = summary[:, None].expand(-1, features.shape[1], -1)
        decoded: Tensor = self.decoder(torch.cat([features, beside], 2))
        return decoded


def _layers(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )
