"""What metric learners share: they embed a task's support and queries, fit the support, score the queries."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Episodes, Examples, Invalid, Network, Workload
from metabench.device import Device
from metabench.engine import lift
from metabench.learning import ModuleLearner, mean_gradient, task_losses

STATISTICS = ("together", "apart", "single")
STATISTICS_HELP = (
    "what batch norm averages over: 'together', a task's support and queries; 'apart', its support set, "
    "and its queries among themselves; 'single', for each query the support set and that query alone, "
    "which is not transductive (and trains as 'together')"
)


class Kept(NamedTuple):
    """An adapted state: the support set, and what was fitted to it (None where that needs the queries)."""

    support: Examples
    fitted: Any


class EmbeddingLearner(ModuleLearner):
    """Trains an embedding of inputs, and whatever compares embedded examples; write `fit` and `score`.

    module: a torch module with `.features`; beside: further modules that are trained along with it;
    statistics: one of STATISTICS; ways: the classes of a task, in training and in the test. The optimizer
    is Adam, whose rate is halved every `halve_every` steps (0: never).

    With a network of batch norm, the evaluation is transductive unless statistics is "single". Without
    batch statistics the three are the same and no query sees another.
    """

    def __init__(
        self,
        module: nn.Module,
        workload: Workload,
        *,
        statistics: str,
        rate: float,
        halve_every: int,
        beside: Iterable[nn.Module] = (),
    ) -> None:
        trained = nn.ModuleList([module, *beside])
        optimizer = torch.optim.Adam(trained.parameters(), rate)
        halving = torch.optim.lr_scheduler.StepLR(optimizer, halve_every, 0.5) if halve_every else None
        super().__init__(trained, optimizer, halving)
        self.ways = workload.test.ways
        self.lifted = lift(module)
        self.statistics = statistics if self.lifted.batch_statistics else "apart"
        self.transductive = self.lifted.batch_statistics and statistics != "single"
        self.path = self.lifted.path

    @abstractmethod
    def fit(self, features: Tensor, y: Tensor, ways: int) -> Any:
        """What a task's classes are, from embedded support: features [T, n, d], y [T, n] in 0..ways - 1."""

    @abstractmethod
    def score(self, fitted: Any, features: Tensor) -> Tensor:
        """Class scores [T, q, ways] of embedded queries [T, q, d]."""

    def losses(self, scores: Tensor, y: Tensor) -> Tensor:
        """The loss of each task, [T]: scores [T, q, ways], y [T, q]; cross entropy unless overridden."""
        return task_losses("classification", scores, y)

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """The gradient of the queries' loss; a training task may have ways of its own. Returns losses [T]."""
        assert isinstance(batch, Episodes)
        return mean_gradient(self.parameters(), self._query_losses, batch)

    def _query_losses(self, batch: Episodes) -> Tensor:
        support, query = self._embed_both(batch.support.x, batch.query.x)
        fitted = self.fit(support, batch.support.y, batch.classes.shape[1])
        return self.losses(self.score(fitted, query), batch.query.y)

    def adapt(self, support: Examples, steps: int | None = None) -> Kept:
        """Embeds the support set and fits it; with statistics "together" that waits for the queries."""
        if self.statistics == "together":
            return Kept(support, None)
        return Kept(support, self.fit(self.embed(support.x), support.y, self.ways))

    def predict(self, state: Kept, query_x: Tensor) -> Tensor:
        """Class scores [T, q, ways] for query_x [T, q, *input]."""
        if self.statistics == "together":
            support, query = self._embed_both(state.support.x, query_x)
            return self.score(self.fit(support, state.support.y, self.ways), query)
        if self.statistics == "apart":
            return self.score(state.fitted, self.embed(query_x))
        return self.score(state.fitted, self._embed_alone(state.support.x, query_x))

    def embed(self, x: Tensor) -> Tensor:
        """Features [T, n, d] of x [T, n, *input], which share their task's normalisation statistics."""
        return self.lifted(x, part="features").flatten(2)

    def _embed_both(self, support_x: Tensor, query_x: Tensor) -> tuple[Tensor, Tensor]:
        if self.statistics == "apart":
            return self.embed(support_x), self.embed(query_x)
        n = support_x.shape[1]
        embedded = self.embed(torch.cat([support_x, query_x], 1))
        return embedded[:, :n], embedded[:, n:]

    def _embed_alone(self, support_x: Tensor, query_x: Tensor) -> Tensor:
        """Features [T, q, d] of each query as the last example of a batch with its support set."""
        found = []
        for support, queries in zip(support_x, query_x, strict=True):  # q (n + 1) examples in memory at once
            beside = support.expand(len(queries), *support.shape)
            found.append(self.embed(torch.cat([beside, queries[:, None]], 1))[:, -1])
        return torch.stack(found)


def embedding(algorithm: str, workload: Workload, network: Network | None, device: Device) -> nn.Module:
    """The network without its head, on the device; raises Invalid where the cell names no network."""
    if network is None:
        raise Invalid(f"{algorithm} needs a network to embed with; name one in the cell")
    return network.build(workload.facts.input_shape, None).to(device.torch, device.dtype)


def class_means(features: Tensor, y: Tensor, ways: int) -> Tensor:
    """The mean feature of each class, [T, ways, d] (absent: zeros): features [T, n, d], y [T, n]."""
    member = F.one_hot(y, ways).to(features.dtype)  # [T, n, ways]
    return (member.mT @ features) / member.sum(1)[:, :, None].clamp(min=1)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances [T, i, j] between the rows of a [T, i, d] and of b [T, j, d]."""
    return a.square().sum(2)[:, :, None] - 2 * a @ b.mT + b.square().sum(2)[:, None]
