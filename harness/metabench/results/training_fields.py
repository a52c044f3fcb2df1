"""What a row says of a result's training: how far it came, what ended it, and whether its curve is flat."""

from __future__ import annotations

import math
from statistics import fmean

from metabench.records.result import Result, Training, Validation
from metabench.records.row import TrainingFields

FLAT_PART = 0.25
"""The last part of training over which the validation curve must be flat."""

FLAT_GAIN = 0.05
"""The part of all that training gained by which the curve may still move there."""


def training_fields(result: Result) -> TrainingFields:
    """Return the figures of a training, empty ones where nothing was trained."""
    training = result.training
    if training is None:
        return {"trained_steps": None, "flat": None, "validations": [], "best_step": None,
                "target_step": None, "target_seconds": None, "ended_by": "", "resumed": 0,
                "annealed": False, "loss": None}  # fmt: skip
    return {
        "trained_steps": training.steps,
        "flat": _flat(training) if result.cell.budget.steps and result.cell.train else None,
        "validations": [
            [v.step, round(v.train_seconds, 4), v.mean] for v in training.validations if math.isfinite(v.mean)
        ],
        "best_step": training.best_step,
        "target_step": training.target_step,
        "target_seconds": training.target_seconds,
        "ended_by": training.ended_by,
        "loss": _last_loss(training),
        "resumed": len(training.resumed),
        "annealed": training.annealed,
    }


def _last_loss(training: Training) -> float | None:
    """Return the last loss, None where there is none or it is no number: the training diverged."""
    loss = training.losses[-1][1] if training.losses else math.nan
    return loss if math.isfinite(loss) else None


def _flat(training: Training) -> bool:
    """Return whether validation stopped moving over the last quarter of the steps.

    The mean over it is compared with that over the quarter before: it must differ by less than the
    validation's own interval, and by less than FLAT_GAIN of all that training gained (or half the
    interval, where that is more). A curve with no validation in either quarter has not been watched.
    """

    def within(low: float, high: float) -> list[Validation]:
        return [v for v in training.validations if low * training.steps < v.step <= high * training.steps]

    last, before = within(1 - FLAT_PART, 1), within(1 - 2 * FLAT_PART, 1 - FLAT_PART)
    if not last or not before:
        return False
    now, half = fmean(v.mean for v in last), fmean(v.half_width for v in last)
    moved = abs(now - fmean(v.mean for v in before))
    gained = abs(now - training.validations[0].mean)
    return moved <= min(half, max(FLAT_GAIN * gained, half / 2))
