"""Negative log-likelihood: how much of its trust a classifier gave to the true class."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from metabench import Metric


@dataclass(frozen=True, kw_only=True)
class NegativeLogLikelihood(Metric):
    """The mean of −log p(true class) over a task's queries, in nats; p is the softmax of the scores.

    A guess that trusts all classes alike scores log(ways). It judges calibration, which accuracy cannot.
    """

    name: ClassVar[str] = "nll"
    unit: ClassVar[str] = "nats"
    higher_is_better: ClassVar[bool] = False
    kinds: ClassVar[frozenset[str]] = frozenset({"classification"})

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """prediction: [T, q, ways]; target: [T, q]; returns [T], in nats."""
        flat = F.cross_entropy(prediction.flatten(0, 1), target.flatten(), reduction="none")
        return flat.view(target.shape).mean(1)
