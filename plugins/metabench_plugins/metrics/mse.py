"""Mean squared error: how far predicted values are from the true ones."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metabench import Metric
from metabench.records import Needs


@dataclass(frozen=True, kw_only=True)
class MeanSquaredError(Metric):
    """The mean of a task's squared errors over its queries and outputs, in the target's unit squared."""

    name: ClassVar[str] = "mse"
    needs: ClassVar[Needs] = "values"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)
    higher_is_better: ClassVar[bool] = False

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """prediction, target: [T, q, outputs]; returns [T]."""
        return (prediction - target).square().flatten(1).mean(1)
