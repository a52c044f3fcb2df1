"""Expected calibration error: how far a classifier's confidence is from its accuracy."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from metabench import Metric, setting
from metabench.records import Needs


@dataclass(frozen=True, kw_only=True)
class ExpectedCalibrationError(Metric):
    """The mean distance of confidence from accuracy over bins of equal width, weighted by queries, in 0..1.

    M. Naeini, G. Cooper, M. Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI
    2015; C. Guo, G. Pleiss, Y. Sun, K. Weinberger: On Calibration of Modern Neural Networks, ICML 2017,
    equation 3: the confidence of a query is the largest of its probabilities, and bin m of M holds the
    queries with a confidence in ((m - 1)/M, m/M]. It is of all queries of all test tasks together: a task
    has too few of them for its bins. The estimate is biased upwards where bins hold few queries, so only
    equal numbers of tasks and bins compare.
    """

    name: ClassVar[str] = "ece"
    needs: ClassVar[Needs] = "probabilities"
    unit: ClassVar[str] = "share"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_better: ClassVar[bool] = False
    pooled: ClassVar[bool] = True

    bins: int = setting(15, "bins of equal width over the confidence", at_least=1)

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Score log-probabilities [T, q, ways] against targets [T, q]; return parts [T, bins + 1].

        For each bin the sum of confidence less correctness over a task's queries, then the number of queries.
        """
        highest, predicted = prediction.max(2)
        confidence = highest.exp().double()
        number = (confidence * self.bins).ceil().clamp(1, self.bins).nan_to_num(1.0).long() - 1
        gap = confidence - (predicted == target).double()
        gaps = (F.one_hot(number, self.bins) * gap[..., None]).sum(1)  # [T, bins]
        queries = torch.ones_like(gap).sum(1, keepdim=True)
        return torch.cat([gaps, queries], 1)

    def pool(self, parts: Tensor) -> Tensor:
        """Return the calibration error [...] of summed parts [..., bins + 1]."""
        return parts[..., :-1].abs().sum(-1) / parts[..., -1]
