"""Learners without a meta-gradient: the starting point follows the weights that tasks' training ends with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from metabench.contracts import Episodes, Examples
from metabench.engine.task_weights import TaskWeights, sums_over_tasks
from metabench.errors import Invalid
from metabench.learning.gradient import GradientAlgorithm, GradientLearner
from metabench.records.cell import Workload


class DisplacementLearner(GradientLearner):
    """Leaves in `.grad` the mean over tasks of φ − φ̃, starting point less end; write `trained` and `adapt`.

    A training task's support and query examples are trained on together. The optimizer is plain gradient
    descent. meta: what is learned beside the network, and is set to the mean that `ended` gives.
    """

    def __init__(
        self,
        module: nn.Module,
        workload: Workload,
        settings: GradientAlgorithm,
        meta: nn.Module | None = None,
    ) -> None:
        if settings.execution != "eager":
            raise Invalid(
                f"{settings.name} has no meta-gradient to compile or capture: set execution to 'eager'"
            )
        if settings.train_statistics != "queries":
            raise Invalid(
                f"{settings.name} trains on support and queries together: train_statistics must be "
                f"'queries', got {settings.train_statistics!r}"
            )
        super().__init__(module, workload, settings, meta)
        if self.optimizer is not None:
            network = [weight for weight in module.parameters() if weight.requires_grad]
            beside = [] if meta is None else list(meta.parameters())
            self.optimizer = torch.optim.SGD([
                {"params": network, "lr": settings.rate}, *([{"params": beside, "lr": 1.0}] if beside else [])
            ])  # fmt: skip

    @abstractmethod
    def trained(self, examples: Examples, step: int) -> TaskWeights:
        """Return each task's weights φ̃ after training on its examples, in this step of meta-training."""

    def ended(self, examples: Examples, step: int) -> tuple[TaskWeights, Sequence[Tensor]]:
        """Return φ̃, and for each parameter beside the network what each task ended with, [T, …]."""
        return self.trained(examples, step), ()

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Leave φ − φ̃ in `.grad`; return the queries' losses after training, [T]."""
        assert isinstance(batch, Episodes)
        with torch.no_grad(), self.network.training():
            losses, sums = zip(*(self._train(part, step) for part in self.chunks(batch)), strict=True)
            for parameter, *parts in zip(self.execution.parameters, *sums, strict=True):
                summed = reduce(torch.add, parts)
                parameter.grad = torch.sub(parameter, summed, alpha=1 / len(batch.index))
        return torch.cat(losses)

    def _train(self, episodes: Episodes, step: int) -> tuple[Tensor, list[Tensor]]:
        """Train on each task; return the losses [T], and the sum of the weights φ̃ that they ended with."""
        support, query = episodes.support, episodes.query
        both = Examples(torch.cat([support.x, query.x], 1), torch.cat([support.y, query.y], 1))
        weights, beside = self.ended(both, step)
        sums = [*sums_over_tasks(weights).values(), *(end.sum(0) for end in beside)]
        return self.loss_on(query).once(weights), sums
