"""The engine: ordinary torch modules run over a whole batch of tasks at once."""

from metabench.engine.adapt import TaskWeights, constant_gradients, descend, gradients, spread
from metabench.engine.implicit import implicit_loss
from metabench.engine.lift import Lifted, lift

__all__ = [
    "Lifted",
    "TaskWeights",
    "constant_gradients",
    "descend",
    "gradients",
    "implicit_loss",
    "lift",
    "spread",
]
