"""Nearest centroid on the raw inputs: the floor of data whose inputs are features already."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from metabench import Algorithm, Examples, Network, Protocol, Workload, setting
from metabench.device import Device
from metabench.learning import UntrainedLearner, class_means, fixed_ways, squared_distances
from metabench.records import DataKind, Outputs


@dataclass(frozen=True, kw_only=True)
class NearestCentroid(Algorithm):
    """Predicts the class whose mean support example is nearest to a query, without any training.

    J. Rocchio: Relevance feedback in information retrieval, 1971, with "cosine". A prototypical network whose
    embedding changes nothing. Class scores are cosines or negative squared distances, which no loss has
    scaled: metrics of probabilities are refused.
    """

    name: ClassVar[str] = "nearest-centroid"
    needs_network: ClassVar[bool] = False
    any_ways: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    distance: str = setting(
        "euclidean", "distance of two inputs, as flat vectors", choices=["euclidean", "cosine"]
    )

    def train_protocol(self, test: Protocol) -> None:
        """Return None: nothing is trained."""

    def predicts(self, kind: DataKind) -> Outputs:
        """Return "scores"."""
        return "scores"

    def build(self, workload: Workload, network: Network | None, device: Device) -> "NearestCentroidLearner":
        """Build the learner; it holds no tensors."""
        return NearestCentroidLearner(self, workload)


class NearestCentroidLearner(UntrainedLearner):
    """Compares queries with the class means of the support set."""

    def __init__(self, settings: NearestCentroid, workload: Workload) -> None:
        self.settings = settings
        self.ways = fixed_ways(workload)

    def adapt(self, support: Examples, steps: int | None = None) -> Tensor:
        """Return the class means [T, ways, inputs] of the support set."""
        return class_means(support.x.flatten(2), support.y, self.ways or int(support.y.max()) + 1)

    def predict(self, state: Tensor, query_x: Tensor) -> Tensor:
        """Return class scores [T, q, ways]: cosines, or minus the squared distances to the means."""
        x = query_x.flatten(2)
        if self.settings.distance == "cosine":
            return F.normalize(x, dim=2) @ F.normalize(state, dim=2).mT
        return -squared_distances(x, state)
