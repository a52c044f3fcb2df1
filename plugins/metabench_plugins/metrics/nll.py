"""Negative log-likelihood: how little probability a classifier gives to the true class."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from metabench import Metric


@dataclass(frozen=True, kw_only=True)
class NegativeLogLikelihood(Metric):
    """The mean of −log p(true class) over a task's queries, in nats; p is the softmax of the scores.

    Equal probabilities score log(ways). It measures calibration, which accuracy does not.
    """

    name: ClassVar[str] = "nll"
    unit: ClassVar[str] = "nats"
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)
    higher_is_better: ClassVar[bool] = False
    kinds: ClassVar[frozenset[str]] = frozenset({"classification"})

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """prediction: [T, q, ways]; target: [T, q]; returns [T], in nats."""
        flat = F.cross_entropy(prediction.flatten(0, 1), target.flatten(), reduction="none")
        return flat.view(target.shape).mean(1)
