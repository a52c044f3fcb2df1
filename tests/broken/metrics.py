"""Metrics with one fault each, and a sound one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metabench import (
    Metric,
    setting,
)


@dataclass(frozen=True, kw_only=True)
class FaultyMetric(Metric):
    """Accuracy, with a fault."""

    name: ClassVar[str] = "faulty"
    fault: str = setting("", "which")

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        right = (prediction.argmax(-1) == target).to(prediction.dtype)
        right = right * prediction.isfinite().all(-1)
        if self.fault == "one number":
            return right.mean()
        if self.fault == "upside down":
            return 1 - right.mean(1)
        if self.fault == "over tasks":
            return right.mean(1) - 0.5 * right.mean()
        if self.fault == "order":
            return right[:, 0] + 0.01 * right.mean(1)
        if self.fault == "in place":
            prediction.mul_(2)
        if self.fault == "praises nan":
            return torch.where(prediction.isnan().all(-1).all(-1), 1.0, right.mean(1))
        if self.fault == "stray weights":
            return (right * torch.full((right.shape[1],), 1 / right.shape[1])).sum(1)
        if self.fault == "on the cpu":
            return right.mean(1).cpu()
        return right.mean(1)
