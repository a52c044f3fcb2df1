"""Negative log-likelihood: how little probability a classifier gives to the true class."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metabench import Metric
from metabench.records import Needs


@dataclass(frozen=True, kw_only=True)
class NegativeLogLikelihood(Metric):
    """The mean of −log p(true class) over a task's queries, in nats.

    Equal probabilities score log(ways). It is the logarithmic score of I. Good: Rational Decisions, 1952: a
    proper scoring rule, so it measures calibration too, which accuracy does not.
    """

    name: ClassVar[str] = "nll"
    needs: ClassVar[Needs] = "probabilities"
    unit: ClassVar[str] = "nats"
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)
    higher_is_better: ClassVar[bool] = False

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Score log-probabilities [T, q, ways] against targets [T, q]; return [T], in nats."""
        return -prediction.gather(2, target[:, :, None]).squeeze(2).mean(1)
