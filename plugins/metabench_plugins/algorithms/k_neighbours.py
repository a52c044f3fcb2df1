"""The k nearest neighbours on the raw inputs of each task."""

from dataclasses import dataclass
from typing import Any, ClassVar

from metabench import setting
from metabench_plugins.algorithms._estimator import EstimatorAlgorithm


@dataclass(frozen=True, kw_only=True)
class KNeighbours(EstimatorAlgorithm):
    """Predicts by the votes of the k nearest support examples, weighted by distance, without training.

    T. Cover, P. Hart: Nearest neighbor pattern classification, 1967; scikit-learn's. A support set of fewer
    than k examples votes as a whole. With `standardise` each input is first scaled by the support set's own
    mean and deviation, as tables of different units need.
    """

    name: ClassVar[str] = "k-neighbours"

    k: int = setting(5, "neighbours that vote", at_least=1)
    standardise: bool = setting(False, "scale inputs by the support set's mean and deviation")

    def estimator(self, examples: int) -> Any:
        """Return scikit-learn's estimator."""
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        neighbours = KNeighborsClassifier(min(self.k, examples), weights="distance", algorithm="brute")
        return make_pipeline(StandardScaler(), neighbours) if self.standardise else neighbours
