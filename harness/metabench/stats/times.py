"""Ratios of times with intervals, times that cannot be trusted, and the time to a target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from metabench.stats.intervals import CONFIDENCE

UNSTABLE_SPREAD = 0.10
UNSTABLE_EXTREME = 0.50
"""Block times whose standard deviation or extremes lie further from their mean are called unstable."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of times with its interval."""

    ratio: float
    low: float
    high: float


def time_ratio(new: ArrayLike, base: ArrayLike, confidence: float = CONFIDENCE) -> Ratio:
    """How many times as long `new` takes as `base`, from pairs of values [n] taken side by side.

    A t interval of the logarithms, so that new/base and base/new agree. Blocks that one process
    alternates share the machine's state; runs minutes apart share less of it, and their spread shows it.
    """
    logs = np.log(np.asarray(new, dtype=np.float64)) - np.log(np.asarray(base, dtype=np.float64))
    if len(logs) < 2:
        value = float(np.exp(logs.mean())) if len(logs) else float("nan")
        return Ratio(value, 0.0, float("inf"))
    half = stdtrit(len(logs) - 1, (1 + confidence) / 2) * logs.std(ddof=1) / np.sqrt(len(logs))
    middle = logs.mean()
    return Ratio(float(np.exp(middle)), float(np.exp(middle - half)), float(np.exp(middle + half)))


def welch_ratio(
    new: float, base: float, spreads: tuple[float | None, float | None], counts: tuple[int, int]
) -> tuple[float, float | None, float | None]:
    """How many times as long `new` takes as `base`, with a 95 % interval from the spread of their blocks.

    new, base: mean seconds; spreads: the standard deviation over the blocks of each; counts: their number.
    Welch's interval for the difference of the logarithms; None where a side has fewer than two blocks.
    """
    ratio = new / base
    parts = []
    for seconds, spread, count in zip((new, base), spreads, counts, strict=True):
        if spread is None or count < 2:
            return ratio, None, None
        parts.append(((spread / seconds) ** 2 / count, count - 1))
    variance = sum(square for square, _ in parts)
    if not variance:
        return ratio, ratio, ratio
    freedom = variance**2 / sum(square**2 / count for square, count in parts)
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(variance)
    return ratio, math.exp(math.log(ratio) - half), math.exp(math.log(ratio) + half)


def unstable(block_seconds: ArrayLike) -> bool | None:
    """Whether seconds per step of blocks spread too far to be trusted; None for fewer than 3 blocks."""
    values: NDArray[np.float64] = np.asarray(block_seconds, dtype=np.float64)
    if len(values) < 3:
        return None
    mean = values.mean()
    far = np.abs(values - mean).max() >= UNSTABLE_EXTREME * mean
    return bool(far or values.std(ddof=1) >= UNSTABLE_SPREAD * mean)


@dataclass(frozen=True)
class TimeToTarget:
    """Seconds until the target was reached (None where the rule gives none) and the rule that gave it."""

    seconds: float | None
    note: str


def time_to_target(seconds: Sequence[float | None]) -> TimeToTarget:
    """The mean time to the target over seeds, by the rule of MLPerf; None: a run that never reached it.

    At least 3 seeds; from 5 on the fastest and the slowest are dropped; a run that never arrives is the
    slowest, and two of them invalidate the result.
    """
    missed = sum(value is None for value in seconds)
    if len(seconds) < 3:
        return TimeToTarget(None, f"{len(seconds)} of the 3 seeds that a time to target needs")
    if missed > 1:
        return TimeToTarget(None, f"{missed} of {len(seconds)} seeds never reached it")
    ordered = sorted(float("inf") if value is None else value for value in seconds)
    if len(ordered) >= 5:
        ordered = ordered[1:-1]
    if ordered[-1] == float("inf"):
        return TimeToTarget(None, f"1 of {len(seconds)} seeds never reached it")
    dropped = ", fastest and slowest dropped" if len(seconds) >= 5 else ""
    return TimeToTarget(float(np.mean(ordered)), f"{len(seconds)} seeds{dropped}")
