"""What algorithms share that fit an estimator of scikit-learn to each task's support set."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from torch import Tensor

from metabench import Algorithm, Examples, Network, Protocol, Workload
from metabench.device import Device
from metabench.learning import UntrainedLearner, fixed_ways
from metabench.records import DataKind, Outputs


@dataclass(frozen=True, kw_only=True)
class EstimatorAlgorithm(Algorithm):
    """An algorithm without meta-training that fits one estimator a task; write `estimator`.

    Inputs are flat vectors. Estimators run on the CPU, also where the cell's device is another.
    """

    needs_network: ClassVar[bool] = False
    any_ways: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    @classmethod
    def unavailable(cls) -> str | None:
        """Return how to install scikit-learn where it is absent."""
        if find_spec("sklearn") is not None:
            return None
        return f"{cls.name} needs scikit-learn: pip install 'metabench[classical]'"

    @abstractmethod
    def estimator(self, examples: int) -> Any:
        """Return a new estimator with `fit` and `predict_proba`, for a support set of so many examples."""

    def train_protocol(self, test: Protocol) -> None:
        """Return None: nothing is trained."""

    def predicts(self, kind: DataKind) -> Outputs:
        """Return "log-probabilities"."""
        return "log-probabilities"

    def build(self, workload: Workload, network: Network | None, device: Device) -> EstimatorLearner:
        """Build the learner; it holds no tensors."""
        return EstimatorLearner(self, workload)


class EstimatorLearner(UntrainedLearner):
    """Fits an estimator to each support set and reads class probabilities from it."""

    outputs = "log-probabilities"

    def __init__(self, settings: EstimatorAlgorithm, workload: Workload) -> None:
        self.settings = settings
        self.ways = fixed_ways(workload)

    def adapt(self, support: Examples, steps: int | None = None) -> tuple[int, Sequence[Any]]:
        """Return the ways of the tasks, and an estimator of each."""
        ways = self.ways or int(support.y.max()) + 1
        x, y = support.x.detach().flatten(2).cpu().numpy(), support.y.cpu().numpy()
        pairs = zip(x, y, strict=True)
        return ways, [self.settings.estimator(len(labels)).fit(rows, labels) for rows, labels in pairs]

    def predict(self, state: tuple[int, Sequence[Any]], query_x: Tensor) -> Tensor:
        """Return log-probabilities [T, q, ways]; a class that the support set lacks has minus infinity."""
        ways, estimators = state
        queries = query_x.detach().flatten(2).cpu().numpy()
        probabilities = torch.zeros(*query_x.shape[:2], ways, dtype=torch.float64)
        for row, x, estimator in zip(probabilities, queries, estimators, strict=True):
            row[:, torch.from_numpy(estimator.classes_)] = torch.from_numpy(
                estimator.predict_proba(x)
            ).double()
        return probabilities.log().to(query_x.device, query_x.dtype)
