"""AUROC: how well class scores tell the queries of each class from the rest."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from metabench import Metric
from metabench.records import Needs


@dataclass(frozen=True, kw_only=True)
class Auroc(Metric):
    """The area under the ROC curve of each class against the rest, as a mean over a task's classes, in 0..1.

    The probability that a query of the class scores higher on it than another query does, equal scores
    counting half (J. Hanley, B. McNeil, 1982; one class against the rest: T. Fawcett: An introduction to ROC
    analysis, 2006, section 9). 0.5 is chance. Classes count equally. Logits are compared as
    log-probabilities, since only their differences within a query mean something. A class without queries,
    or with all of them, is left out; a score of NaN gives NaN.
    """

    name: ClassVar[str] = "auroc"
    needs: ClassVar[Needs] = "scores"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_better: ClassVar[bool] = True

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Score class scores [T, q, ways] against targets [T, q]; return [T], in 0..1."""
        scores = prediction.mT.contiguous()  # [T, ways, q]: a class's scores of all queries
        member = F.one_hot(target, prediction.shape[2]).mT.double()
        positives = member.sum(2)
        negatives = target.shape[1] - positives
        rank_sum = (member * _ranks(scores)).sum(2)
        areas = (rank_sum - positives * (positives + 1) / 2) / (positives * negatives).clamp(min=1)
        has_both = positives * negatives > 0
        mean = (areas * has_both).sum(1) / has_both.sum(1)
        return mean.masked_fill(prediction.isnan().flatten(1).any(1), torch.nan).to(prediction.dtype)


def _ranks(scores: Tensor) -> Tensor:
    """Return the ranks 1, 2, … of scores [..., q] along the last axis; equal scores share their mean rank."""
    ordered = scores.sort(-1).values
    below = torch.searchsorted(ordered, scores)
    up_to = torch.searchsorted(ordered, scores, right=True)
    return (below + up_to + 1).double() / 2
