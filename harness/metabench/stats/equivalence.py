"""Whether two sets of scores are equal, within a stated margin, by two one-sided tests.

Source: Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15 (1987).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from metabench.stats.intervals import Estimate, difference, estimate

EQUAL_SHARE = 0.02
"""Margin within which two shares (accuracies) count as equal: the tolerance between reproductions."""

EQUAL_RELATIVE = 0.1
"""The same for scores of another unit, as a part of the smaller mean's size."""

EQUAL_LEVEL = 0.05
"""The level of each of the two one-sided tests."""


def equal_scores(first: ArrayLike, second: ArrayLike, *, share: bool) -> bool:
    """Whether scores [seeds, tasks] over the same tasks are shown to be equal within `equal_margin`.

    share: whether they are shares in 0..1. Identical scores are equal however few they are.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape == b.shape and np.array_equal(a, b):
        return True
    return bool(difference(a, b).p_equal(equal_margin(a, b, share=share)) <= EQUAL_LEVEL)


def equal_margin(first: ArrayLike, second: ArrayLike, *, share: bool) -> float:
    """The largest difference of the means at which two sets of scores still count as equal."""
    if share:
        return EQUAL_SHARE
    return EQUAL_RELATIVE * min(abs(float(np.asarray(scores).mean())) for scores in (first, second))


def unpaired_difference(first: ArrayLike, second: ArrayLike) -> Estimate:
    """The mean of `first` minus that of `second`, scores [tasks] over tasks that differ (Welch)."""
    a, b = (estimate(np.asarray(scores, dtype=np.float64)[None]) for scores in (first, second))
    square = np.square(a.error) + np.square(b.error)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.square(square) / (a.error**4 / a.freedom + b.error**4 / b.freedom)
    unknown = np.asarray(np.nan)
    freedom = np.where(square > 0, freedom, a.freedom)
    return Estimate(np.asarray(a.mean - b.mean), np.sqrt(square), freedom, unknown, unknown, unknown)


def p_beyond(difference: Estimate, margin: float) -> float:
    """The p value of a one-sided test: small where the difference is shown to be larger than ± margin."""
    beyond = float(np.abs(difference.mean)) - margin
    error = float(difference.error)
    if error == 0:
        return 0.0 if beyond > 0 else 1.0
    return float(stdtr(difference.freedom, -beyond / error))
