"""Base classes of learners, and the losses, gradients and distances that they share.

Derive an algorithm and its learner from:

- `GradientAlgorithm` and `GradientLearner`, and write `adapt`, where tasks adapt by gradient steps and the
  meta-gradient passes through them; `DisplacementLearner`, and write `trained` too, where the starting
  point follows the trained weights;
- `EmbeddingAlgorithm` (`EpisodicAlgorithm` with training ways of its own) and `EmbeddingLearner`, and write
  `fit` and `score`, for metric learners;
- `SupervisedAlgorithm` and `SupervisedLearner`, and write `fit` and `score`, to transfer from a classifier
  of meta-train's classes;
- `metabench.Algorithm` and `ModuleLearner`, and write `learn`, `adapt` and `predict`, for any other module
  with an optimizer; `UntrainedLearner`, and write `adapt` and `predict`, without meta-training.

Axes: T tasks, n support examples of a task, q query examples of a task, d features, `*input` one example's
shape.
"""

from metabench.learning.base import (
    ModuleLearner,
    UntrainedLearner,
    adam,
    load_module,
    module_tensors,
    require_trainable,
)
from metabench.learning.displacement import DisplacementLearner
from metabench.learning.embedding import (
    EmbeddingAlgorithm,
    EmbeddingLearner,
    EpisodicAlgorithm,
    FeatureAlgorithm,
    FittedSupport,
    class_means,
    class_sums,
    cosines,
    full_precision,
    squared_distances,
)
from metabench.learning.gradient import Adapted, GradientAlgorithm, GradientLearner
from metabench.learning.losses import mean_gradient, outputs_of, some_tasks, task_losses
from metabench.learning.networks import (
    Headed,
    build_network,
    equal_ways,
    feature_width,
    fixed_ways,
    map_shape,
    require_equal_ways,
    with_head,
)
from metabench.learning.statistics import (
    STATISTICS,
    STATISTICS_HELP,
    TASK_STATISTICS,
    TASK_STATISTICS_HELP,
    TRAIN_STATISTICS_HELP,
    TaskNetwork,
)
from metabench.learning.supervised import SupervisedAlgorithm, SupervisedLearner, fit_head

__all__ = [
    "STATISTICS",
    "STATISTICS_HELP",
    "TASK_STATISTICS",
    "TASK_STATISTICS_HELP",
    "TRAIN_STATISTICS_HELP",
    "Adapted",
    "DisplacementLearner",
    "EmbeddingAlgorithm",
    "EmbeddingLearner",
    "EpisodicAlgorithm",
    "FeatureAlgorithm",
    "FittedSupport",
    "GradientAlgorithm",
    "GradientLearner",
    "Headed",
    "ModuleLearner",
    "SupervisedAlgorithm",
    "SupervisedLearner",
    "TaskNetwork",
    "UntrainedLearner",
    "adam",
    "build_network",
    "class_means",
    "class_sums",
    "cosines",
    "equal_ways",
    "feature_width",
    "fit_head",
    "fixed_ways",
    "full_precision",
    "load_module",
    "map_shape",
    "mean_gradient",
    "module_tensors",
    "outputs_of",
    "require_equal_ways",
    "require_trainable",
    "some_tasks",
    "squared_distances",
    "task_losses",
    "with_head",
]
