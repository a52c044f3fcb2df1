"""Logistic regression on the raw inputs of each task."""

from dataclasses import dataclass
from typing import Any, ClassVar

from metabench import setting
from metabench_plugins.algorithms._estimator import EstimatorAlgorithm


@dataclass(frozen=True, kw_only=True)
class LogisticRegression(EstimatorAlgorithm):
    """Fits a multinomial logistic regression to each task's support set, without any meta-training.

    scikit-learn's, by L-BFGS. With `standardise` each input is first scaled by the support set's own mean and
    deviation, as tables of different units need; deviations of one example are no deviations.
    """

    name: ClassVar[str] = "logistic-regression"

    inverse_penalty: float = setting(1.0, "inverse weight of the squared norm of the weights", above=0)
    standardise: bool = setting(False, "scale inputs by the support set's mean and deviation")
    iterations: int = setting(1000, "iterations at most", at_least=1)

    def estimator(self, examples: int) -> Any:
        """Return scikit-learn's estimator."""
        from sklearn import linear_model
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        regression = linear_model.LogisticRegression(
            C=self.inverse_penalty, max_iter=self.iterations, tol=1e-6
        )
        return make_pipeline(StandardScaler(), regression) if self.standardise else regression
