"""Learners without a meta-gradient: the starting point follows the weights that tasks' training ends with."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from metabench.contracts import Episodes, Examples
from metabench.engine.adapt import TaskWeights
from metabench.errors import Invalid
from metabench.learning.gradient import GradientAlgorithm, GradientLearner
from metabench.records.cell import Workload


class DisplacementLearner(GradientLearner):
    """Leaves in `.grad` the mean over tasks of φ − φ̃, starting point less end; write `trained` and `adapt`.

    A training task's support and query examples are trained on together. The optimizer is plain descent.
    """

    def __init__(self, module: nn.Module, workload: Workload, settings: GradientAlgorithm) -> None:
        if settings.execution != "eager":
            raise Invalid(
                f"{settings.name} has no meta-gradient to compile or capture: set execution to 'eager'"
            )
        super().__init__(module, workload, settings)
        self.optimizer = torch.optim.SGD(self.module.parameters(), settings.rate)

    @abstractmethod
    def trained(self, examples: Examples, step: int) -> TaskWeights:
        """Each task's weights φ̃ after training on its examples, in this step of meta-training."""

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Leaves φ − φ̃ in `.grad`; returns the queries' losses after training, [T]."""
        assert isinstance(batch, Episodes)
        ends = [torch.zeros_like(p) for p in self.parameters()]
        with torch.no_grad():
            losses = torch.cat([self._train(some, step, ends) for some in self.chunks(batch)])
            for parameter, end in zip(self.parameters(), ends, strict=True):
                parameter.grad = parameter - end / len(batch.index)
        return losses

    def _train(self, episodes: Episodes, step: int, ends: list[Tensor]) -> Tensor:
        """Trains on each task, adds the weights φ̃ that it ended with to `ends`, returns the losses [T]."""
        support, query = episodes.support, episodes.query
        both = Examples(torch.cat([support.x, query.x], 1), torch.cat([support.y, query.y], 1))
        ended = self.trained(both, step)
        for end, weight in zip(ends, ended.values(), strict=True):
            end += weight.sum(0)
        return self.loss(self.network(query.x, ended), query.y)
