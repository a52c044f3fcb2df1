"""Accuracy: the fraction of query examples whose class has the highest score."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metabench import Metric
from metabench.records import Needs


@dataclass(frozen=True, kw_only=True)
class Accuracy(Metric):
    """The fraction of a task's queries that are classified correctly, in 0..1.

    Of equal scores the first class counts as the prediction; a score of NaN is never correct.
    """

    name: ClassVar[str] = "accuracy"
    needs: ClassVar[Needs] = "classes"
    unit: ClassVar[str] = "share"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_better: ClassVar[bool] = True

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Score predicted classes [T, q] against targets [T, q]; return [T], a fraction in 0..1."""
        return (prediction == target).float().mean(1)
