"""The variance between training seeds, pooled over several comparisons.

From 3 seeds one comparison's variance between seeds has 2 degrees of freedom: hardly a difference of a few
points would ever be shown. Comparisons of one kind vary alike, more or less, and lend each other theirs.

Source: Smyth, Statistical Applications in Genetics and Molecular Biology 3 (2004), sections 4 and 6
(moderated t; the prior by the moments of the logarithms).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, fdtri, polygamma

Array = NDArray[np.float64]


def homogeneous(squares: Array, freedom: int, level: float) -> NDArray[np.bool_]:
    """Which mean squares [n] are not plainly larger than the others, by an F test against their median.

    level: the fraction of equal variances that is called homogeneous.
    """
    limit = fdtri(freedom, len(squares) * freedom, level)
    return np.asarray(squares <= np.median(squares) * limit)


def moderated_variances(squares: Array, freedom: int) -> tuple[Array, Array]:
    """Mean squares [n] of `freedom` degrees each, shrunk towards their common value, and the new degrees.

    How far they shrink follows from how much they differ: equal mean squares are averaged, those that
    differ more than chance explains keep a share of their own. A mean square that is plainly larger than
    the others stays as it is, and so do all where fewer than three are homogeneous.
    """
    alike = homogeneous(squares, freedom, 0.999)
    own = np.full_like(squares, freedom)
    if alike.sum() < 3:
        return squares, own
    kept = squares[alike]
    logs = np.log(kept) - digamma(freedom / 2) + np.log(freedom / 2)
    beyond = logs.var(ddof=1) - polygamma(1, freedom / 2)  # the variance that chance does not explain
    total = float(freedom * len(kept))
    if beyond > 0:
        prior = min(2 * _trigamma_inverse(float(beyond)), total)
        common = np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2))
        kept = (prior * common + freedom * kept) / (prior + freedom)
        total = min(prior + freedom, total)
    else:
        kept = np.full_like(kept, kept.mean())
    squares, own = squares.copy(), own.copy()
    squares[alike], own[alike] = kept, total
    return squares, own


def _trigamma_inverse(value: float) -> float:
    """x with trigamma(x) = value, by Newton's method (Smyth 2004, appendix)."""
    if value > 1e7:
        return float(1 / np.sqrt(value))
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        step = polygamma(1, x) * (1 - polygamma(1, x) / value) / polygamma(2, x)
        x += float(step)
        if abs(step) < 1e-8 * x:
            break
    return float(x)
