"""Accuracy: the share of query examples whose class has the highest score."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metabench import Metric


@dataclass(frozen=True, kw_only=True)
class Accuracy(Metric):
    """The share of a task's queries that are classified right, in 0..1.

    Of equal scores the first class counts as the answer; a score that is not a number is never right.
    """

    name: ClassVar[str] = "accuracy"
    unit: ClassVar[str] = "share"
    higher_is_better: ClassVar[bool] = True
    kinds: ClassVar[frozenset[str]] = frozenset({"classification"})

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """prediction: [T, q, ways]; target: [T, q]; returns [T], a share in 0..1."""
        right = (prediction.argmax(-1) == target) & ~prediction.isnan().any(-1)
        return right.float().mean(1)
