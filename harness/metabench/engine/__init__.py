"""The engine: ordinary torch modules run over a whole batch of tasks at once."""

from metabench.engine.adapt import TaskWeights, descend, gradients, spread
from metabench.engine.learner import Adapted, GradientAlgorithm, GradientLearner
from metabench.engine.lift import Lifted, lift

__all__ = [
    "Adapted",
    "GradientAlgorithm",
    "GradientLearner",
    "Lifted",
    "TaskWeights",
    "descend",
    "gradients",
    "lift",
    "spread",
]
