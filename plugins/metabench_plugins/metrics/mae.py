"""Mean absolute error: how far predicted values are from the true ones, in the target's own unit."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metabench import Metric
from metabench.records import Needs


@dataclass(frozen=True, kw_only=True)
class MeanAbsoluteError(Metric):
    """The mean of a task's absolute errors over its queries and outputs, in the target's unit.

    C. Willmott, K. Matsuura: Advantages of the mean absolute error (MAE) over the root mean square error
    (RMSE) in assessing average model performance, 2005.
    """

    name: ClassVar[str] = "mae"
    needs: ClassVar[Needs] = "values"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)
    higher_is_better: ClassVar[bool] = False

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Score predictions [T, q, outputs] against targets of that shape; return [T]."""
        return (prediction - target).abs().flatten(1).mean(1)
