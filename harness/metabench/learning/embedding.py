"""Base classes of metric learners: embed a task's support and queries, fit the support, score the queries."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench.contracts import Algorithm, Episodes, Examples, Network
from metabench.device.device import Device
from metabench.learning.base import ModuleLearner, adam
from metabench.learning.losses import mean_gradient, task_losses
from metabench.learning.networks import build_network, fixed_ways
from metabench.learning.statistics import (
    STATISTICS,
    STATISTICS_HELP,
    TASK_STATISTICS,
    TRAIN_STATISTICS_HELP,
    TaskNetwork,
)
from metabench.records.cell import Workload
from metabench.records.outputs import Outputs
from metabench.records.protocol import Protocol
from metabench.settings import setting

HALVING_HELP = "steps after which the rate halves, again and again; 0: never"


@dataclass(frozen=True, kw_only=True)
class FeatureAlgorithm(Algorithm):
    """The settings of algorithms that compare or classify embedded examples, however they are trained."""

    any_ways: ClassVar[bool] = True

    rate: float = setting(1e-3, "learning rate of Adam", above=0)
    halve_every: int = setting(0, HALVING_HELP, at_least=0)
    statistics: str = setting("population", STATISTICS_HELP, choices=STATISTICS)

    def embedding(self, workload: Workload, network: Network | None, device: Device) -> nn.Module:
        """Return the network without its head, on the device; raise Invalid where the cell names none."""
        return build_network(self.name, network, workload, device, outputs=None)


@dataclass(frozen=True, kw_only=True)
class EmbeddingAlgorithm(FeatureAlgorithm):
    """The settings of algorithms that train an embedding on tasks."""

    train_statistics: str = setting("joined", TRAIN_STATISTICS_HELP, choices=TASK_STATISTICS)


@dataclass(frozen=True, kw_only=True)
class EpisodicAlgorithm(EmbeddingAlgorithm):
    """An embedding algorithm whose tasks in training may have other ways than the test's."""

    train_ways: int = setting(0, "classes of a training task; 0: as in the test", at_least=0)

    def train_protocol(self, test: Protocol) -> Protocol:
        """Return the test's protocol with this algorithm's own ways."""
        return test.with_ways(self.train_ways) if self.train_ways else test


class FittedSupport(NamedTuple):
    """An adapted state: the support set, and what was fitted to it in `steps` steps.

    fitted is None where support and queries are normalised in one batch, so that it needs the queries.
    """

    support: Examples
    fitted: Any
    steps: int | None


class EmbeddingLearner(ModuleLearner):
    """Trains an embedding of inputs, and what compares embedded examples; write `fit` and `score`.

    module: a torch module with `.features`; beside: further modules that are trained along with it;
    training_head: one more that training alone needs. The optimizer is Adam. Scores are logits, as the cross
    entropy of `losses` takes them; a subclass with another loss states its own `outputs`.
    """

    outputs: Outputs = "logits"

    def __init__(
        self,
        settings: FeatureAlgorithm,
        module: nn.Module,
        workload: Workload,
        beside: Iterable[nn.Module] = (),
        training_head: nn.Module | None = None,
    ) -> None:
        learned = nn.ModuleDict({"network": module, "beside": nn.ModuleList(beside)})
        trained = nn.ModuleList([learned] if training_head is None else [learned, training_head])
        optimizer = adam(trained, settings.rate, settings.name, workload)
        halving = (
            torch.optim.lr_scheduler.StepLR(optimizer, settings.halve_every, 0.5)
            if settings.halve_every and optimizer is not None
            else None
        )
        super().__init__(learned, optimizer, halving, training_head)
        self.ways = fixed_ways(workload)
        # without tasks in training a micro-batch is all there is, and has its own statistics
        in_training = settings.train_statistics if isinstance(settings, EmbeddingAlgorithm) else "queries"
        self.lifted = TaskNetwork(module, settings.statistics, in_training)
        self.transductive = self.lifted.transductive

    @property
    def path(self) -> str:  # type: ignore[override]  # the generic path is chosen in the first run
        """Return the execution path of the engine: "batched", "vmap" or "loop"."""
        return self.lifted.path

    @abstractmethod
    def fit(self, features: Tensor, y: Tensor, ways: int) -> Any:
        """Return each task's classifier: features [T, n, d] of the support, y [T, n] in 0..ways - 1."""

    @abstractmethod
    def score(self, fitted: Any, features: Tensor) -> Tensor:
        """Return class scores [T, q, ways] of embedded queries [T, q, d]."""

    def losses(self, scores: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each task, [T]: scores [T, q, ways], y [T, q]; cross entropy by default."""
        return task_losses("classification", scores, y)

    def fit_by_steps(self, features: Tensor, y: Tensor, ways: int, steps: int | None) -> Any:
        """Return what `fit` does; steps: of gradients, where it takes any (None: its own number)."""
        return self.fit(features, y, ways)

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Leave the gradient of the queries' loss; return the losses [T]. Ways may differ from the test's."""
        assert isinstance(batch, Episodes)
        with self.lifted.training():
            return mean_gradient(self.parameters(), self._query_losses, batch)

    def _query_losses(self, batch: Episodes) -> Tensor:
        support, query = self.embed_both(batch.support.x, batch.query.x)
        with full_precision(support):
            fitted = self.fit(support, batch.support.y, batch.classes.shape[1])
            return self.losses(self.score(fitted, query), batch.query.y)

    def finish(self, batches: Iterator[Examples]) -> None:
        """Measure the statistics of meta-train where `statistics` is "population"."""
        self.lifted.finish(batches)

    def adapt(self, support: Examples, steps: int | None = None) -> FittedSupport:
        """Embed the support set and fit it; where queries are joined to it, `predict` does both."""
        if self.lifted.joins:
            return FittedSupport(support, None, steps)
        features = self.embed(support.x)
        with full_precision(features):
            return FittedSupport(
                support, self.fit_by_steps(features, support.y, self._ways(support), steps), steps
            )

    def predict(self, state: FittedSupport, query_x: Tensor) -> Tensor:
        """Return class scores [T, q, ways] for query_x [T, q, *input]."""
        if self.lifted.joins:
            support, query = self.embed_both(state.support.x, query_x)
            with full_precision(query):
                fitted = self.fit_by_steps(support, state.support.y, self._ways(state.support), state.steps)
                return self.score(fitted, query)
        query = self.embed_queries(state.support.x, query_x)
        with full_precision(query):
            return self.score(state.fitted, query)

    def _ways(self, support: Examples) -> int:
        return self.ways or int(support.y.max()) + 1

    def embed(self, x: Tensor) -> Tensor:
        """Return features [T, n, d] of x [T, n, *input], normalised by their own statistics or held ones.

        The features have x's own float type, also where autocast lets the network compute in a shorter one.
        """
        return self._features(self.lifted(x, part="features"), x)

    def embed_queries(self, support_x: Tensor, query_x: Tensor) -> Tensor:
        """Return features [T, q, d] of query_x [T, q, *input], normalised as `statistics` says."""
        return self._features(self.lifted.queries(support_x, query_x, part="features"), query_x)

    def embed_both(self, support_x: Tensor, query_x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [T, n, d] of support_x and [T, q, d] of query_x, normalised as chosen."""
        support, query = self.lifted.support_and_queries(support_x, query_x, part="features")
        return self._features(support, support_x), self._features(query, query_x)

    @staticmethod
    def _features(outputs: Tensor, x: Tensor) -> Tensor:
        return outputs.flatten(2).to(x.dtype)


def full_precision(features: Tensor) -> AbstractContextManager[Any]:
    """Return a context without autocast: solvers and differences of distances need more than 8 bits."""
    kind = features.device.type
    if not torch.amp.is_autocast_available(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def class_sums(features: Tensor, y: Tensor, ways: int) -> Tensor:
    """Return the summed features of each class, [T, ways, d]: features [T, n, d], y [T, n]."""
    return F.one_hot(y, ways).to(features.dtype).mT @ features


def class_means(features: Tensor, y: Tensor, ways: int) -> Tensor:
    """Return the mean feature of each class, [T, ways, d] (absent: zeros): features [T, n, d], y [T, n]."""
    counts = F.one_hot(y, ways).sum(1)[:, :, None]  # [T, ways, 1]
    return class_sums(features, y, ways) / counts.clamp(min=1)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return squared Euclidean distances [T, i, j] between rows of a [T, i, d] and of b [T, j, d]."""
    return a.square().sum(2)[:, :, None] - 2 * a @ b.mT + b.square().sum(2)[:, None]


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Return cosines [T, i, j] of the angles between rows of a [T, i, d] and of b [T, j, d]."""
    return F.normalize(a, dim=2) @ F.normalize(b, dim=2).mT
