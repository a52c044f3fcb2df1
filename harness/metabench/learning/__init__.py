"""Base classes of learners, and the losses, gradients and distances that they share."""

from metabench.learning.base import (
    DEVICE_INPUTS,
    HOST_INPUTS,
    Batch,
    Headed,
    ModuleLearner,
    UntrainedLearner,
    mean_gradient,
    some_tasks,
    task_losses,
)
from metabench.learning.displacement import (
    DisplacementLearner,
)
from metabench.learning.embedding import (
    HALVING_HELP,
    JOINED,
    JOINED_HELP,
    EmbeddingAlgorithm,
    EmbeddingLearner,
    EpisodicAlgorithm,
    Kept,
    class_means,
    class_sums,
    cosines,
    feature_width,
    full_precision,
    squared_distances,
)
from metabench.learning.gradient import (
    Adapted,
    GradientAlgorithm,
    GradientLearner,
)
from metabench.learning.supervised import (
    SupervisedAlgorithm,
    SupervisedLearner,
    descend_head,
)

__all__ = [
    "DEVICE_INPUTS",
    "HALVING_HELP",
    "HOST_INPUTS",
    "JOINED",
    "JOINED_HELP",
    "Adapted",
    "Batch",
    "DisplacementLearner",
    "EmbeddingAlgorithm",
    "EmbeddingLearner",
    "EpisodicAlgorithm",
    "GradientAlgorithm",
    "GradientLearner",
    "Headed",
    "Kept",
    "ModuleLearner",
    "SupervisedAlgorithm",
    "SupervisedLearner",
    "UntrainedLearner",
    "class_means",
    "class_sums",
    "cosines",
    "descend_head",
    "feature_width",
    "full_precision",
    "mean_gradient",
    "some_tasks",
    "squared_distances",
    "task_losses",
]
