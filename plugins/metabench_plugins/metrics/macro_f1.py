"""Macro F1: the mean over classes of the harmonic mean of precision and recall."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from metabench import Metric
from metabench.records import Needs


@dataclass(frozen=True, kw_only=True)
class MacroF1(Metric):
    """The mean of a task's F1 scores, one for each class against the rest, in 0..1.

    C. van Rijsbergen: Information Retrieval, 1979, chapter 7; averaged over classes as J. Opitz, S. Burst:
    Macro F1 and Macro F1, 2019, recommend (the mean of F1 scores, not the F1 of means). A class that is
    neither a target nor predicted is left out, as scikit-learn does.
    """

    name: ClassVar[str] = "macro-f1"
    needs: ClassVar[Needs] = "classes"
    unit: ClassVar[str] = "share"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_better: ClassVar[bool] = True

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Score predicted classes [T, q] against targets [T, q]; return [T], in 0..1."""
        classes = int(torch.maximum(prediction.max(), target.max())) + 1
        # a query without a class (-1) takes a column of its own, which is then dropped
        predicted = F.one_hot(prediction + 1, classes + 1)[..., 1:].sum(1)  # [T, classes]
        actual = F.one_hot(target, classes)
        right = (actual * (prediction == target)[..., None]).sum(1)
        either = predicted + actual.sum(1)  # 2 TP + FP + FN
        f1 = 2 * right / either.clamp(min=1)
        return f1.sum(1) / (either > 0).sum(1)
