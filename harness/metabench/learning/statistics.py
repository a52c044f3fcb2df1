"""Which examples give batch norm its statistics: the settings `statistics` and `train_statistics`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor, nn

from metabench.contracts import Examples
from metabench.engine.lift import Lifted, Part
from metabench.engine.norms import hold_statistics, measure_population

TASK_STATISTICS = ("queries", "joined", "support")
"""Statistics that a task gives: all that training has, and learners that nothing trains."""

STATISTICS = (*TASK_STATISTICS, "population")
TRANSDUCTIVE = ("queries", "joined")
"""Statistics by which a query's prediction depends on the other queries of its task."""

POPULATION_BATCHES = 64
"""Micro-batches of meta-train that a population is measured on."""

_TASK_HELP = (
    "'queries', all queries of the task, while the support set has its own; 'joined', support and queries in "
    "one batch; 'support', the support set"
)
TRAIN_STATISTICS_HELP = f"whose statistics batch norm takes for queries in training: {_TASK_HELP}"
TASK_STATISTICS_HELP = (
    f"whose statistics batch norm takes for queries: {_TASK_HELP}; the first two are transductive"
)
STATISTICS_HELP = (
    f"whose statistics batch norm takes for queries in the test: {_TASK_HELP}; the first two are "
    "transductive; 'population', means over micro-batches of meta-train, for the support set too"
)


class TaskNetwork(Lifted):
    """A network over tasks whose batch norm takes statistics by choice: one for scoring, one for training.

    Batch norms that bring statistics of their own keep them, whatever is chosen; without others the choice
    changes nothing. A plain call normalises each task by the examples given (`population`: by what
    `finish` measured), `support_and_queries` and `queries` as the choice says. It is that for scoring but
    inside of `with network.training():`.
    """

    def __init__(self, module: nn.Module, statistics: str, train_statistics: str) -> None:
        super().__init__(module)
        self.statistics = statistics
        self._scoring, self._training = statistics, train_statistics
        if self.population:
            hold_statistics(self.norms, next(module.parameters()).detach())

    @property
    def population(self) -> bool:
        """Return whether scoring takes statistics of meta-train, which `finish` measures."""
        return self.batch_statistics and self._scoring == "population"

    @property
    def transductive(self) -> bool:
        """Return whether a query that is scored depends on the other queries of its task."""
        return self.batch_statistics and self._scoring in TRANSDUCTIVE

    @property
    def joins(self) -> bool:
        """Return whether support and queries have statistics in common, so that both are needed at once."""
        return self.batch_statistics and self.statistics == "joined"

    @contextmanager
    def training(self) -> Iterator[None]:
        """Normalise as in training: let batch norm take the statistics of each task's examples."""
        self._choose(self._training)
        try:
            yield
        finally:
            self._choose(self._scoring)

    def _choose(self, statistics: str) -> None:
        self.statistics = statistics
        for layer in self.norms:
            layer.train(statistics != "population")

    def finish(self, batches: Iterator[Examples]) -> None:
        """Measure the population on the first micro-batches of meta-train, x [m, *input]."""
        if self.population:
            measure_population(
                self.module, self.norms, (batch.x for batch in islice(batches, POPULATION_BATCHES))
            )

    def support_and_queries(
        self,
        support_x: Tensor,
        query_x: Tensor,
        weights: Mapping[str, Tensor] | None = None,
        part: Part = "all",
    ) -> tuple[Tensor, Tensor]:
        """Return outputs [T, n, …] for support_x [T, n, *input] and [T, q, …] for query_x [T, q, *input]."""
        if not self.batch_statistics or self.statistics in ("queries", "population"):
            return self(support_x, weights, part), self(query_x, weights, part)
        n = support_x.shape[1]
        both = torch.cat([support_x, query_x], 1)
        outputs = self(both, weights, part, statistics=n if self.statistics == "support" else None)
        return outputs[:, :n], outputs[:, n:]

    def queries(
        self,
        support_x: Tensor,
        query_x: Tensor,
        weights: Mapping[str, Tensor] | None = None,
        part: Part = "all",
    ) -> Tensor:
        """Return outputs [T, q, …] for query_x [T, q, *input] alone."""
        if not self.batch_statistics or self.statistics in ("queries", "population"):
            return self(query_x, weights, part)
        return self.support_and_queries(support_x, query_x, weights, part)[1]
