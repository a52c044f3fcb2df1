"""Tiers of competitors on the same tasks, from paired tests that are corrected for their number.

Source: Holm, Scandinavian J. of Statistics 6 (1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metabench.stats.intervals import (
    CONFIDENCE,
    Estimate,
    estimate_from_squares,
    grouped,
    plain_squares,
    redrawn_squares,
)
from metabench.stats.pooling import homogeneous
from metabench.stats.redraw import Redraw

Array = NDArray[np.float64]


def holm(p_values: ArrayLike) -> Array:
    """The p values [n], corrected so that rejecting those ≤ α errs anywhere with a chance of at most α."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


TIER_RULE = (
    "Tier: in order of the mean, a row opens a new tier where it is shown to be worse than a row of the tier "
    "above it (paired tests on the same tasks, Holm, 5 %); its number is 1 + the rows in better tiers"
)
"""What `tiers` does, in the words of every report."""


@dataclass(frozen=True)
class Ranking:
    """Ranks of competitors on the same tasks, 1 is best; `detectable`: the median over pairs."""

    ranks: tuple[int, ...]
    detectable: float


def tiers(
    competitors: Sequence[ArrayLike],
    higher_is_better: bool = True,
    level: float = 1 - CONFIDENCE,
    redraw: Redraw | None = None,
) -> Ranking:
    """Ranks that paired tests over the same tasks can defend, corrected by Holm over all pairs.

    competitors: each [seeds, tasks]; redraw: what the tasks are made of, for tests that hold for new classes
    too. See `TIER_RULE`: a worse mean never has a better rank, no two of one
    tier are shown to differ, and every new tier rests on a difference that is shown; where all are equal,
    there is more than one tier with a chance of at most `level`. That a difference is shown is
    not transitive: a competitor that varies much between seeds can be a tier below another that no test
    shows it to be worse than; its mean places it there.
    """
    scores = [np.asarray(c, dtype=np.float64) for c in competitors]
    count = len(scores)
    if count < 2:
        return Ranking((1,) * count, float("nan"))
    mean, p, detectable = all_pairs(scores, level, redraw)
    first, second = np.triu_indices(count, 1)
    apart = np.zeros((count, count), dtype=bool)
    apart[first, second] = apart[second, first] = holm(p[first, second]) <= level
    beaten = mean.sum(axis=1) if higher_is_better else -mean.sum(axis=1)  # orders as the means do
    ranks, tier = [1] * count, list[int]()
    for place, row in enumerate(np.argsort(-beaten, kind="stable").tolist(), 1):
        if not tier or apart[row, tier].any():
            tier, rank = [], place
        tier.append(row)
        ranks[row] = rank
    return Ranking(tuple(ranks), float(np.median(detectable[first, second])))


def all_pairs(
    scores: Sequence[Array], level: float, redraw: Redraw | None = None
) -> tuple[Array, Array, Array]:
    """For every pair, [n, n] each: mean difference, p value, and difference detectable after correction.

    The squares of a difference are those of both sides less twice their product, so that three matrix
    products serve all pairs. Pairs with different numbers of seeds meet at the smaller one.
    """
    count = len(scores)
    mean, p, detectable = (np.zeros((count, count)) for _ in range(3))
    sizes = np.array([len(s) for s in scores])
    for seeds in np.unique(sizes):
        chosen = np.flatnonzero(sizes >= seeds)
        y = np.stack([grouped(scores[i], int(seeds)) for i in chosen.tolist()])
        estimates = _pairs_of(y, redraw)
        here = np.minimum.outer(sizes[chosen], sizes[chosen]) == seeds
        at = tuple(axis[here] for axis in np.meshgrid(chosen, chosen, indexing="ij"))
        mean[at] = estimates.mean[here]
        p[at] = estimates.p_value()[here]
        detectable[at] = estimates.detectable(level / (count * (count - 1) / 2))[here]
    return mean, p, detectable


def _pairs_of(y: Array, redraw: Redraw | None = None) -> Estimate:
    """Estimates [n, n] of every difference between scores y [n, seeds, tasks]."""
    _, seeds, tasks = y.shape
    mean = y.mean(axis=(1, 2))
    by_seed = y.mean(axis=2) - mean[:, None]
    by_task = y.mean(axis=1) - mean[:, None]
    rest = y - mean[:, None, None] - by_seed[:, :, None] - by_task[:, None, :]
    seed_square = tasks * _squares(by_seed) / max(seeds - 1, 1)
    freedom = None
    if seeds > 1 and len(y) > 2:
        seed_square, freedom = _pooled(seed_square, seeds)
    squares = plain_squares(
        seed_square,
        seeds * _squares(by_task) / max(tasks - 1, 1),
        _squares(rest) / max((seeds - 1) * (tasks - 1), 1),
        seeds, tasks, freedom,
    )  # fmt: skip
    redrawn = squares
    if redraw is not None:
        of_tasks = [_squares(part) for part in redraw.projections(by_task)]
        of_rest = [_squares(part) for part in redraw.projections(rest)]
        redrawn = redrawn_squares(squares, of_tasks, of_rest, redraw, seeds, tasks)
    return estimate_from_squares(mean[:, None] - mean[None, :], squares, redrawn, seeds, tasks)


def _pooled(seed_square: Array, seeds: int) -> tuple[Array, Array]:
    """The seeds' squares [n, n] of all pairs, pooled over the board, and their degrees of freedom.

    From 3 seeds one pair's square has 2 degrees of freedom: no difference of less than ten points would
    ever be shown. As in Tukey's test all competitors are taken to vary alike between seeds: the mean over
    pairs is twice the interaction of competitor and seed. One that plainly varies more keeps its own.
    """
    own = seed_square.sum(axis=1) / (len(seed_square) - 1)  # a competitor against all others
    alike = homogeneous(own, seeds - 1, 0.95)
    if alike.sum() < 3:
        return seed_square, np.full_like(seed_square, seeds - 1)
    pairs = np.outer(alike, alike)
    count = int(alike.sum())
    mean = (seed_square * pairs).sum() / (count * (count - 1))
    between = float((count - 1) * (seeds - 1))
    return np.where(pairs, mean, seed_square), np.where(pairs, between, seeds - 1.0)


def _squares(deviations: Array) -> Array:
    """Sums of squares [n, n] of all differences between rows of [n, ...]."""
    flat = deviations.reshape(len(deviations), -1)
    products = flat @ flat.T
    own = np.diag(products)
    squares = own[:, None] + own[None, :] - 2 * products
    squares[squares < 1e-12 * (own[:, None] + own[None, :])] = 0.0  # equal rows, up to rounding
    return np.asarray(squares)
