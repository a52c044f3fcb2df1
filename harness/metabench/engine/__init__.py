"""The engine: ordinary torch modules run over a whole batch of tasks at once, and gradient steps for each.

lifted = lift(module)                                        # [T, n, *input] → [T, n, outputs]
start = expand_weights(module, tasks)                        # every task's starting point, by name
adapted = inner_steps(loss, start, rate, steps)              # loss: weights → [T]
lifted(x, adapted)                                           # each task with its own weights
"""

from metabench.engine.adam import TaskAdam
from metabench.engine.adapt import constant_gradients, expand_weights, gradients, inner_steps
from metabench.engine.examples_loss import ExamplesLoss
from metabench.engine.implicit import implicit_loss
from metabench.engine.lift import Lifted, lift
from metabench.engine.norms import drop_running_statistics
from metabench.engine.task_weights import TaskWeights, sums_over_tasks

__all__ = [
    "ExamplesLoss",
    "Lifted",
    "TaskAdam",
    "TaskWeights",
    "constant_gradients",
    "drop_running_statistics",
    "expand_weights",
    "gradients",
    "implicit_loss",
    "inner_steps",
    "lift",
    "sums_over_tasks",
]
