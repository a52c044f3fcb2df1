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
from metabench.records import Needs


@dataclass(frozen=True, kw_only=True)
class FaultyMetric(Metric):
    """Accuracy, with a fault."""

    name: ClassVar[str] = "faulty"
    needs: ClassVar[Needs] = "scores"
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


@dataclass(frozen=True, kw_only=True)
class FaultyPooledMetric(Metric):
    """The accuracy over all queries of all tasks, with a fault."""

    name: ClassVar[str] = "faulty-pooled"
    needs: ClassVar[Needs] = "classes"
    pooled: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    fault: str = setting("", "which")

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        right = (prediction == target).double()
        if self.fault == "pools in score":
            return right.mean()[None]
        if self.fault == "over tasks":
            right = right - 0.5 * right.mean()
        return torch.stack([right.sum(1), torch.ones_like(right).sum(1)], 1)

    def pool(self, parts: Tensor) -> Tensor:
        if self.fault == "means over rows":
            parts = parts - parts.mean(0) / 2 if parts.dim() > 1 else parts
        if self.fault == "one number":
            return parts.sum()
        if self.fault == "counts":
            return parts[..., 0]
        return parts[..., 0] / parts[..., 1]


@dataclass(frozen=True, kw_only=True)
class NeverPools(FaultyPooledMetric):
    """Says that it is pooled, and leaves the pooling out."""

    name: ClassVar[str] = "never-pools"
    pool = Metric.pool


@dataclass(frozen=True, kw_only=True)
class OverShare(FaultyMetric):
    """Calls what reaches 1.7 a share."""

    name: ClassVar[str] = "over-share"
    unit: ClassVar[str] = "share"

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 1.7 * super().score(prediction, target)


@dataclass(frozen=True, kw_only=True)
class OddNeed(FaultyMetric):
    """Needs what no learner predicts."""

    name: ClassVar[str] = "odd-need"
    needs: ClassVar[Needs] = "softmax"  # type: ignore[assignment]  # the fault
