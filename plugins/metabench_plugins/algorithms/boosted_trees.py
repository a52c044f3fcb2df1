"""Gradient-boosted trees on the raw inputs of each task: the usual rival on tables."""

from dataclasses import dataclass
from typing import Any, ClassVar

from metabench import setting
from metabench_plugins.algorithms._estimator import EstimatorAlgorithm


@dataclass(frozen=True, kw_only=True)
class BoostedTrees(EstimatorAlgorithm):
    """Fits gradient-boosted trees to each task's support set, without any meta-training.

    J. Friedman: Greedy function approximation: a gradient boosting machine, 2001; scikit-learn's histogram
    version, without subsampling or early stopping, so that nothing is drawn.
    """

    name: ClassVar[str] = "boosted-trees"

    trees: int = setting(50, "rounds, each of a tree per class", at_least=1)
    rate: float = setting(0.1, "learning rate", above=0)
    depth: int = setting(3, "splits above a leaf at most", at_least=1)
    leaf: int = setting(1, "examples of a leaf at least", at_least=1)

    def estimator(self, examples: int) -> Any:
        """Return scikit-learn's estimator."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(
            learning_rate=self.rate, max_iter=self.trees, max_depth=self.depth, min_samples_leaf=self.leaf,
            early_stopping=False, random_state=0,
        )  # fmt: skip
