"""Nearest neighbour on the raw inputs: the floor that any learned metric must beat."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metabench import Algorithm, Examples, Network, Protocol, Workload, setting
from metabench.device import Device
from metabench.learning import UntrainedLearner, fixed_ways
from metabench.records import DataKind, Outputs


@dataclass(frozen=True, kw_only=True)
class NearestNeighbour(Algorithm):
    """Predicts the class or value of the nearest support example of the raw inputs, without any training.

    T. Cover, P. Hart: Nearest neighbor pattern classification, 1967. Each query is predicted alone: the
    evaluation is not transductive. Class scores are negative distances of inputs, which no loss has scaled:
    metrics of probabilities are refused.
    """

    name: ClassVar[str] = "nearest-neighbour"
    kinds: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})
    needs_network: ClassVar[bool] = False
    any_ways: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    distance: str = setting(
        "euclidean", "distance between two inputs, as flat vectors", choices=["euclidean", "cosine"]
    )

    def train_protocol(self, test: Protocol) -> None:
        """Return None: nothing is trained."""

    def predicts(self, kind: DataKind) -> Outputs:
        """Return "scores", or "values" in regression."""
        return "values" if kind == "regression" else "scores"

    def build(self, workload: Workload, network: Network | None, device: Device) -> "NearestNeighbourLearner":
        """Build the learner; it holds no tensors."""
        return NearestNeighbourLearner(self, workload)


class NearestNeighbourLearner(UntrainedLearner):
    """Compares queries with the support set."""

    transductive = False

    def __init__(self, settings: NearestNeighbour, workload: Workload) -> None:
        self.settings = settings
        self.regression = workload.facts.kind == "regression"
        self.outputs = settings.predicts(workload.facts.kind)
        self.targets = workload.outputs
        self.ways = fixed_ways(workload)

    def adapt(self, support: Examples, steps: int | None = None) -> Examples:
        """Return the support set itself: x [T, n, *input], y [T, n] or [T, n, outputs]."""
        return support

    def predict(self, state: Examples, query_x: Tensor) -> Tensor:
        """Return class scores [T, q, ways], minus the distance to the class's nearest example.

        A class that the support set lacks scores minus infinity. In regression: the nearest example's
        target, [T, q, outputs].
        """
        distances = self._distances(query_x.flatten(2), state.x.flatten(2))  # [T, q, n]
        if self.regression:
            nearest = distances.argmin(2)[:, :, None].expand(-1, -1, self.targets)
            return state.y.gather(1, nearest)
        ways = self.ways or int(state.y.max()) + 1
        absent = torch.full(
            (*distances.shape[:2], ways), -torch.inf, dtype=distances.dtype, device=distances.device
        )
        return absent.scatter_reduce(2, state.y[:, None].expand_as(distances), -distances, "amax")

    def _distances(self, query: Tensor, support: Tensor) -> Tensor:
        if self.settings.distance == "euclidean":
            # Without the matrix product: its rounding of near ties would depend on the batch.
            return torch.cdist(query, support, compute_mode="donot_use_mm_for_euclid_dist")
        unit = torch.nn.functional.normalize
        return 1 - unit(query, dim=2) @ unit(support, dim=2).mT
