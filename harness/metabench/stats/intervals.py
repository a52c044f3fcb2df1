"""Intervals, tests and ranks for benchmark scores, vectorised over any leading axes.

Scores come as an array [..., seeds, tasks]: every training seed met the same test tasks, so seeds and
tasks are crossed. The model is score = mean + seed + task + rest, each with a variance of its own.

Sources: Searle, Casella and McCulloch, "Variance Components" (1992), 4.3 (crossed ANOVA);
Satterthwaite, Biometrics Bulletin 2 (1946) (degrees of freedom); Schuirmann, J. Pharmacokinetics and
Biopharmaceutics 15 (1987) (two one-sided tests); Holm, Scandinavian J. of Statistics 6 (1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit  # t; scipy.stats takes a second to import

from metabench.stats.pooling import calm, moderated

Array = NDArray[np.float64]

CONFIDENCE = 0.95
POWER = 0.8
"""The chance with which `detectable` differences would have been found."""

UNSTABLE_SPREAD = 0.10
UNSTABLE_EXTREME = 0.50
"""Block times whose standard deviation or extremes lie further from their mean are called unstable."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its uncertainty: arrays over the leading axes, or scalars as arrays without axes.

    mean; error: its standard error; freedom: degrees of freedom of that error; seed_share, task_share,
    rest_share: shares of the variance of one score, adding up to 1 (NaN where there is no variance).
    """

    mean: Array
    error: Array
    freedom: Array
    seed_share: Array
    task_share: Array
    rest_share: Array

    def __getitem__(self, at: int) -> Estimate:
        """One of the estimates along the first axis."""
        return Estimate(**{name: np.asarray(value[at]) for name, value in vars(self).items()})

    def half_width(self, confidence: float = CONFIDENCE) -> Array:
        """Half the width of the t interval around the mean."""
        return np.asarray(stdtrit(self.freedom, (1 + confidence) / 2) * self.error)

    def p_value(self, null: float = 0.0) -> Array:
        """The two-sided p value of the mean being `null`; 1 where there is no error and no difference."""
        return np.asarray(2 * stdtr(self.freedom, -np.abs(self._t(null))))

    def p_equal(self, margin: float) -> Array:
        """The p value of two one-sided tests: small where the mean surely lies within ± margin of 0."""
        below = stdtr(self.freedom, -self._t(-margin))  # H0: mean ≤ -margin
        above = stdtr(self.freedom, self._t(margin))  # H0: mean ≥ +margin
        return np.asarray(np.maximum(below, above))

    def detectable(self, level: float = 1 - CONFIDENCE) -> Array:
        """The smallest true difference that a test at `level` would have found with power `POWER`."""
        quantiles = stdtrit(self.freedom, 1 - level / 2) + stdtrit(self.freedom, POWER)
        return np.asarray(quantiles * self.error)

    def _t(self, null: float) -> Array:
        difference = np.asarray(self.mean - null)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = difference / self.error
        return np.where(difference == 0, 0.0, t)


def estimate(scores: ArrayLike) -> Estimate:
    """The mean of scores [..., seeds, tasks] over crossed seeds and tasks.

    With one seed the interval is over tasks only: it says nothing of other seeds. A single task has no
    error that could be estimated: its half width is infinite.
    """
    y = np.asarray(scores, dtype=np.float64)
    seeds, tasks = y.shape[-2:]
    return _from_squares(*_mean_squares(y), seeds, tasks)


def _mean_squares(y: Array) -> tuple[Array, Array, Array, Array]:
    """The mean, and the mean squares of seeds, tasks and rest, of scores [..., seeds, tasks]."""
    seeds, tasks = y.shape[-2:]
    mean = y.mean(axis=(-2, -1))
    by_seed = y.mean(axis=-1) - mean[..., None]
    by_task = y.mean(axis=-2) - mean[..., None]
    rest = y - mean[..., None, None] - by_seed[..., :, None] - by_task[..., None, :]
    squares = (
        tasks * np.square(by_seed).sum(axis=-1) / max(seeds - 1, 1),
        seeds * np.square(by_task).sum(axis=-1) / max(tasks - 1, 1),
        np.square(rest).sum(axis=(-2, -1)) / max((seeds - 1) * (tasks - 1), 1),
    )
    rounding = 1e-24 * np.square(mean)  # of scores that are all equal
    by_seeds, by_tasks, of_rest = (np.where(s <= rounding, 0.0, s) for s in squares)
    return mean, by_seeds, by_tasks, of_rest


def _from_squares(
    mean: Array,
    seed_square: Array,
    task_square: Array,
    rest_square: Array,
    seeds: int,
    tasks: int,
    seed_freedom: Array | None = None,
) -> Estimate:
    """The estimate from the mean squares of seeds, tasks and rest, arrays of one shape.

    seed_freedom: the degrees of freedom of seed_square, where others than these seeds went into it.
    """
    if tasks < 2:
        empty = np.full_like(mean, np.nan)
        return Estimate(mean, np.full_like(mean, np.inf), np.ones_like(mean), empty, empty, empty)
    if seeds < 2:
        one, none = np.where(task_square > 0, 1.0, np.nan), np.where(task_square > 0, 0.0, np.nan)
        freedom = np.full_like(mean, tasks - 1)
        return Estimate(mean, np.sqrt(task_square / tasks), freedom, none, one, none)
    # Var(mean) = (E[seed_square] + E[task_square] - E[rest_square]) / (seeds * tasks). Both squares are
    # at least the rest in expectation; an estimate below it is a chance that would shrink the interval.
    kept = np.maximum(seed_square, rest_square)
    beside = np.maximum(task_square - rest_square, 0.0)
    total = kept + beside
    # Satterthwaite's degrees of freedom, with the seeds' square raised: from 2 or 4 degrees of freedom it
    # is often far too small, just when the error is too. Raised by E[square²]/E[square]² the intervals
    # cover 94-97 % at 3 seeds, without it 92-96 %.
    known = np.full_like(mean, seeds - 1) if seed_freedom is None else seed_freedom
    raised = kept * (known + 2) / known
    spread = (
        np.square(raised) / known
        + np.square(task_square) / (tasks - 1)
        + np.square(rest_square) / ((seeds - 1) * (tasks - 1))
    )
    parts = np.stack(
        [
            np.maximum(seed_square - rest_square, 0.0) / tasks,
            np.maximum(task_square - rest_square, 0.0) / seeds,
            rest_square,
        ]
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(spread > 0, np.square(raised + beside) / spread, tasks - 1.0)
        shares = parts / parts.sum(axis=0)
    freedom = np.clip(freedom, known, np.maximum(known, (seeds - 1) * (tasks - 1)))
    return Estimate(mean, np.sqrt(total / (seeds * tasks)), freedom, *shares)


def half_width(spread: float, tasks: int, confidence: float = CONFIDENCE) -> float:
    """Half the t interval around the mean of so many tasks with this standard deviation."""
    return float(stdtrit(tasks - 1, (1 + confidence) / 2) * spread / np.sqrt(tasks))


def difference(first: ArrayLike, second: ArrayLike) -> Estimate:
    """The mean of `first` - `second`, both [..., seeds, tasks] over the same tasks, paired.

    Where the numbers of seeds differ, each side is averaged over groups of them until they agree.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    seeds = min(a.shape[-2], b.shape[-2])
    return estimate(_grouped(a, seeds) - _grouped(b, seeds))


def differences(pairs: Sequence[tuple[ArrayLike, ArrayLike]]) -> list[Estimate]:
    """The `difference` of every pair, all of one unit, their spread between seeds pooled over the pairs.

    Pairs of as many seeds and tasks are pooled, but for those that do not vary at all; see
    `metabench.stats.pooling`.
    """
    apart = []
    for first, second in pairs:
        a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        seeds = min(a.shape[-2], b.shape[-2])
        apart.append(_grouped(a, seeds) - _grouped(b, seeds))
    found: list[Estimate] = [estimate(each) for each in apart]
    for seeds, tasks in {each.shape for each in apart}:
        alike = np.array([i for i, each in enumerate(apart) if each.shape == (seeds, tasks)])
        squares = _mean_squares(np.stack([apart[i] for i in alike]))
        varying = squares[1] > 0
        if seeds < 2 or tasks < 2 or not varying.any():
            continue
        mean, seed_square, task_square, rest_square = (each[varying] for each in squares)
        pooled, freedom = moderated(seed_square, seeds - 1)
        every = _from_squares(mean, pooled, task_square, rest_square, seeds, tasks, freedom)
        for at, i in enumerate(alike[varying]):
            found[i] = every[at]
    return found


def _grouped(scores: Array, groups: int) -> Array:
    """Scores [..., groups, tasks]: seeds averaged in `groups` groups whose sizes differ by one at most."""
    if scores.shape[-2] == groups:
        return scores
    return np.stack([part.mean(axis=-2) for part in np.array_split(scores, groups, axis=-2)], axis=-2)


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
    competitors: Sequence[ArrayLike], higher_is_better: bool = True, level: float = 1 - CONFIDENCE
) -> Ranking:
    """Ranks that paired tests over the same tasks can defend, corrected by Holm over all pairs.

    competitors: each [seeds, tasks]. See `TIER_RULE`: a worse mean never has a better rank, no two of one
    tier are shown to differ, and every new tier rests on a difference that is shown; where all are equal,
    there is more than one tier with a chance of at most `level`. Being told apart is not transitive, so
    that a competitor which varies much between seeds can stand a tier below one that nothing shows it to
    be worse than: its mean places it there.
    """
    scores = [np.asarray(c, dtype=np.float64) for c in competitors]
    count = len(scores)
    if count < 2:
        return Ranking((1,) * count, float("nan"))
    mean, p, detectable = all_pairs(scores, level)
    first, second = np.triu_indices(count, 1)
    apart = np.zeros((count, count), dtype=bool)
    apart[first, second] = apart[second, first] = holm(p[first, second]) <= level
    beaten = mean.sum(axis=1) if higher_is_better else -mean.sum(axis=1)  # orders as the means do
    ranks, tier = [1] * count, list[int]()
    for place, each in enumerate(np.argsort(-beaten, kind="stable").tolist(), 1):
        if not tier or apart[each, tier].any():
            tier, rank = [], place
        tier.append(each)
        ranks[each] = rank
    return Ranking(tuple(ranks), float(np.median(detectable[first, second])))


def all_pairs(scores: Sequence[Array], level: float) -> tuple[Array, Array, Array]:
    """For every pair, [n, n] each: mean difference, p value, and difference detectable after correction.

    The squares of a difference are those of both sides less twice their product, so that three matrix
    products serve all pairs. Pairs with different numbers of seeds meet at the smaller one.
    """
    count = len(scores)
    mean, p, detectable = (np.zeros((count, count)) for _ in range(3))
    sizes = np.array([len(s) for s in scores])
    for seeds in np.unique(sizes):
        chosen = np.flatnonzero(sizes >= seeds)
        y = np.stack([_grouped(scores[i], int(seeds)) for i in chosen.tolist()])
        found = _pairs_of(y)
        here = np.minimum.outer(sizes[chosen], sizes[chosen]) == seeds
        at = tuple(axis[here] for axis in np.meshgrid(chosen, chosen, indexing="ij"))
        mean[at] = found.mean[here]
        p[at] = found.p_value()[here]
        detectable[at] = found.detectable(level / (count * (count - 1) / 2))[here]
    return mean, p, detectable


def _pairs_of(y: Array) -> Estimate:
    """Estimates [n, n] of every difference between scores y [n, seeds, tasks]."""
    _, seeds, tasks = y.shape
    mean = y.mean(axis=(1, 2))
    by_seed = y.mean(axis=2) - mean[:, None]
    by_task = y.mean(axis=1) - mean[:, None]
    rest = (y - mean[:, None, None] - by_seed[:, :, None] - by_task[:, None, :]).reshape(len(y), -1)
    seed_square = tasks * _squares(by_seed) / max(seeds - 1, 1)
    freedom = np.full_like(seed_square, max(seeds - 1, 1))
    if seeds > 1 and len(y) > 2:
        seed_square, freedom = _pooled(seed_square, seeds)
    return _from_squares(
        mean[:, None] - mean[None, :],
        seed_square,
        seeds * _squares(by_task) / max(tasks - 1, 1),
        _squares(rest) / max((seeds - 1) * (tasks - 1), 1),
        seeds,
        tasks,
        freedom,
    )


def _pooled(seed_square: Array, seeds: int) -> tuple[Array, Array]:
    """The seeds' squares [n, n] of all pairs, pooled over the board, and their degrees of freedom.

    From 3 seeds one pair's square has 2 degrees of freedom: no difference of less than ten points would
    ever be shown. As in Tukey's test all competitors are taken to vary alike between seeds: the mean over
    pairs is twice the interaction of competitor and seed. One that plainly varies more keeps its own.
    """
    own = seed_square.sum(axis=1) / (len(seed_square) - 1)  # a competitor against all others
    steady = calm(own, seeds - 1, 0.95)
    if steady.sum() < 3:
        return seed_square, np.full_like(seed_square, seeds - 1)
    pairs = np.outer(steady, steady)
    count = int(steady.sum())
    mean = (seed_square * pairs).sum() / (count * (count - 1))
    between = float((count - 1) * (seeds - 1))
    return np.where(pairs, mean, seed_square), np.where(pairs, between, seeds - 1.0)


def _squares(deviations: Array) -> Array:
    """Sums of squares [n, n] of all differences between rows of [n, k]."""
    products = deviations @ deviations.T
    own = np.diag(products)
    squares = own[:, None] + own[None, :] - 2 * products
    squares[squares < 1e-12 * (own[:, None] + own[None, :])] = 0.0  # equal rows, up to rounding
    return np.asarray(squares)


@dataclass(frozen=True)
class Ratio:
    """A ratio of times with its interval."""

    ratio: float
    low: float
    high: float


def time_ratio(new: ArrayLike, base: ArrayLike, confidence: float = CONFIDENCE) -> Ratio:
    """How many times as long `new` takes as `base`, from pairs of values [n] taken side by side.

    A t interval of the logarithms, so that new/base and base/new agree. Blocks that one process ran in
    turns share the machine's mood; values of runs minutes apart share it less, and say so by their spread.
    """
    logs = np.log(np.asarray(new, dtype=np.float64)) - np.log(np.asarray(base, dtype=np.float64))
    if len(logs) < 2:
        value = float(np.exp(logs.mean())) if len(logs) else float("nan")
        return Ratio(value, 0.0, float("inf"))
    half = stdtrit(len(logs) - 1, (1 + confidence) / 2) * logs.std(ddof=1) / np.sqrt(len(logs))
    middle = logs.mean()
    return Ratio(float(np.exp(middle)), float(np.exp(middle - half)), float(np.exp(middle + half)))


def unstable(block_seconds: ArrayLike) -> bool | None:
    """Whether seconds per step of blocks spread too far to be trusted; None for fewer than 3 blocks."""
    values: NDArray[Any] = np.asarray(block_seconds, dtype=np.float64)
    if len(values) < 3:
        return None
    mean = values.mean()
    far = np.abs(values - mean).max() >= UNSTABLE_EXTREME * mean
    return bool(far or values.std(ddof=1) >= UNSTABLE_SPREAD * mean)


@dataclass(frozen=True)
class TimeToTarget:
    """Seconds until the target was reached (None where the rule gives none) and what to say of it."""

    seconds: float | None
    note: str


def time_to_target(seconds: Sequence[float | None]) -> TimeToTarget:
    """The mean time to the target over seeds, by the rule of MLPerf; None: a run that never reached it.

    At least 3 seeds; from 5 on the fastest and the slowest are dropped; a run that never arrives is the
    slowest, and two of them invalidate the result.
    """
    missed = sum(one is None for one in seconds)
    if len(seconds) < 3:
        return TimeToTarget(None, f"{len(seconds)} of the 3 seeds that a time to target needs")
    if missed > 1:
        return TimeToTarget(None, f"{missed} of {len(seconds)} seeds never reached it")
    ordered = sorted(float("inf") if one is None else one for one in seconds)
    if len(ordered) >= 5:
        ordered = ordered[1:-1]
    if ordered[-1] == float("inf"):
        return TimeToTarget(None, f"1 of {len(seconds)} seeds never reached it")
    dropped = ", fastest and slowest dropped" if len(seconds) >= 5 else ""
    return TimeToTarget(float(np.mean(ordered)), f"{len(seconds)} seeds{dropped}")
