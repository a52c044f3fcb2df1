"""Intervals of mean scores and of their differences, vectorised over any leading axes.

Scores come as an array [..., seeds, tasks]: every training seed met the same test tasks, so seeds and
tasks are crossed. The model is score = mean + seed + task + rest, each with a variance of its own; with a
`Redraw` tasks and rest vary with the classes of the tasks too.

Sources: Searle, Casella and McCulloch, "Variance Components" (1992), 4.3 (crossed ANOVA);
Satterthwaite, Biometrics Bulletin 2 (1946) (degrees of freedom); Schuirmann, J. Pharmacokinetics and
Biopharmaceutics 15 (1987) (two one-sided tests).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit  # t; scipy.stats takes a second to import

from metabench.stats.pooling import moderated_variances
from metabench.stats.redraw import Redraw

Array = NDArray[np.float64]

CONFIDENCE = 0.95
POWER = 0.8
"""The chance with which `detectable` differences would have been found."""


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
        """The p value of two one-sided tests: small where the mean is shown to lie within ± margin of 0."""
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


class MeanSquares(NamedTuple):
    """Mean squares of seeds, tasks and rest, arrays of one shape, each with its degrees of freedom.

    Of seeds × tasks scores, (E[seed] + E[task] - E[rest]) / (seeds · tasks) is the variance of their mean.
    """

    seed: Array
    task: Array
    rest: Array
    seed_freedom: Array
    task_freedom: Array
    rest_freedom: Array


def estimate(scores: ArrayLike, redraw: Redraw | None = None) -> Estimate:
    """The mean of scores [..., seeds, tasks] over crossed seeds and tasks.

    redraw: what the tasks are made of, for an interval that holds for new classes too; without it the
    interval is over tasks of the same classes. With one seed the interval says nothing of other seeds. A
    single task has no error that could be estimated: its half width is infinite.
    """
    y = np.asarray(scores, dtype=np.float64)
    mean, squares = mean_squares(y)
    redrawn = squares if redraw is None or y.shape[-1] < 2 else _redrawn(y, squares, redraw)
    return estimate_from_squares(mean, squares, redrawn, *y.shape[-2:])


def _deviations(y: Array) -> tuple[Array, Array, Array, Array]:
    """The mean of scores [..., seeds, tasks]; deviations of seeds, of tasks, and the rest."""
    mean = y.mean(axis=(-2, -1))
    by_seed = y.mean(axis=-1) - mean[..., None]
    by_task = y.mean(axis=-2) - mean[..., None]
    rest = y - mean[..., None, None] - by_seed[..., :, None] - by_task[..., None, :]
    return mean, by_seed, by_task, rest


def mean_squares(y: Array) -> tuple[Array, MeanSquares]:
    """The mean, and the mean squares of seeds, tasks and rest, of scores [..., seeds, tasks]."""
    seeds, tasks = y.shape[-2:]
    mean, by_seed, by_task, rest = _deviations(y)
    squares = (
        tasks * np.square(by_seed).sum(axis=-1) / max(seeds - 1, 1),
        seeds * np.square(by_task).sum(axis=-1) / max(tasks - 1, 1),
        np.square(rest).sum(axis=(-2, -1)) / max((seeds - 1) * (tasks - 1), 1),
    )
    rounding = 1e-24 * np.square(mean)  # of scores that are all equal
    by_seeds, by_tasks, of_rest = (np.where(s <= rounding, 0.0, s) for s in squares)
    return mean, plain_squares(by_seeds, by_tasks, of_rest, seeds, tasks)


def plain_squares(
    seed: Array, task: Array, rest: Array, seeds: int, tasks: int, seed_freedom: Array | None = None
) -> MeanSquares:
    """Mean squares over independent tasks, with the degrees of freedom of a crossed table.

    seed_freedom: of the seeds' square, where others than these seeds went into it.
    """
    own, of_tasks, of_rest = (
        np.full_like(task, max(number, 1)) for number in (seeds - 1, tasks - 1, (seeds - 1) * (tasks - 1))
    )
    return MeanSquares(seed, task, rest, own if seed_freedom is None else seed_freedom, of_tasks, of_rest)


def _redrawn(y: Array, squares: MeanSquares, redraw: Redraw) -> MeanSquares:
    """The mean squares of scores [..., seeds, tasks], as if each task had classes of its own."""
    _, _, by_task, rest = _deviations(y)
    of_tasks = [np.square(part).sum(axis=-1) for part in redraw.projections(by_task)]
    of_rest = [np.square(part).sum(axis=(-2, -1)) for part in redraw.projections(rest)]
    return redrawn_squares(squares, of_tasks, of_rest, redraw, *y.shape[-2:])


def redrawn_squares(
    squares: MeanSquares,
    of_tasks: Sequence[Array],
    of_rest: Sequence[Array],
    redraw: Redraw,
    seeds: int,
    tasks: int,
) -> MeanSquares:
    """The mean squares with the variance over redrawn classes in those of tasks and of the rest.

    of_tasks, of_rest: sums of squares of the projections of the tasks' means over seeds, and of the rest.
    """
    task = redraw.variance_from_squares(of_tasks)
    redrawn = squares._replace(task=seeds * tasks * task.of_mean, task_freedom=task.freedom)
    if seeds < 2:
        return redrawn
    rest = redraw.variance_from_squares([square / (seeds - 1) for square in of_rest])
    return redrawn._replace(rest=tasks * rest.of_mean, rest_freedom=(seeds - 1) * rest.freedom)


def estimate_from_squares(
    mean: Array, squares: MeanSquares, redrawn: MeanSquares, seeds: int, tasks: int
) -> Estimate:
    """The estimate from mean squares; redrawn: those with the variance over classes, for the error."""
    if tasks < 2:
        empty = np.full_like(mean, np.nan)
        return Estimate(mean, np.full_like(mean, np.inf), np.ones_like(mean), empty, empty, empty)
    if seeds < 2:
        varies = squares.task > 0
        whole, none = np.where(varies, 1.0, np.nan), np.where(varies, 0.0, np.nan)
        error = np.sqrt(redrawn.task / tasks)
        return Estimate(mean, error, redrawn.task_freedom, none, whole, none)
    error, freedom = _error(redrawn, seeds, tasks)
    return Estimate(mean, error, freedom, *_shares(squares, seeds, tasks))


def _error(squares: MeanSquares, seeds: int, tasks: int) -> tuple[Array, Array]:
    """The standard error of a mean over several seeds, and its degrees of freedom."""
    # Var(mean) = (E[seed] + E[task] - E[rest]) / (seeds * tasks). Both squares are at least the rest in
    # expectation; an estimate below it is a chance that would shrink the interval.
    kept = np.maximum(squares.seed, squares.rest)
    beside = np.maximum(squares.task - squares.rest, 0.0)
    total = kept + beside
    # Satterthwaite's degrees of freedom, with the seeds' square raised: from 2 or 4 degrees of freedom it
    # is often far too small, just when the error is too. Raised by E[square²]/E[square]² the intervals
    # cover 94-97 % at 3 seeds, without it 92-96 %.
    known = squares.seed_freedom
    raised = kept * (known + 2) / known
    spread = (
        np.square(raised) / known
        + np.square(squares.task) / squares.task_freedom
        + np.square(squares.rest) / squares.rest_freedom
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(spread > 0, np.square(raised + beside) / spread, tasks - 1.0)
    least = np.minimum(known, squares.task_freedom)
    freedom = np.clip(freedom, least, np.maximum(known, squares.rest_freedom))
    return np.sqrt(total / (seeds * tasks)), freedom


def _shares(squares: MeanSquares, seeds: int, tasks: int) -> Array:
    """The shares of seed, task and rest in the variance of one score, [3, ...]."""
    parts = np.stack(
        [
            np.maximum(squares.seed - squares.rest, 0.0) / tasks,
            np.maximum(squares.task - squares.rest, 0.0) / seeds,
            squares.rest,
        ]
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(parts / parts.sum(axis=0))


def half_width(spread: float, tasks: int, confidence: float = CONFIDENCE) -> float:
    """Half the t interval around the mean of so many tasks with this standard deviation."""
    return float(stdtrit(tasks - 1, (1 + confidence) / 2) * spread / np.sqrt(tasks))


def difference(first: ArrayLike, second: ArrayLike, redraw: Redraw | None = None) -> Estimate:
    """The mean of `first` - `second`, both [..., seeds, tasks] over the same tasks, paired.

    Where the numbers of seeds differ, each side is averaged over groups of them until they agree. redraw: see
    `estimate`.
    """
    return estimate(_paired(first, second), redraw)


def differences(
    pairs: Sequence[tuple[ArrayLike, ArrayLike]], redraws: Sequence[Redraw | None] = ()
) -> list[Estimate]:
    """The `difference` of every pair, all of one unit, their spread between seeds pooled over the pairs.

    Pairs of as many seeds and tasks are pooled, but for those that do not vary at all; see
    `metabench.stats.pooling`. redraws: of each pair, see `estimate`; none by default.
    """
    paired = [_paired(first, second) for first, second in pairs]
    of_pairs = redraws or [None] * len(paired)
    estimates = [estimate(scores, redraw) for scores, redraw in zip(paired, of_pairs, strict=True)]
    for seeds, tasks in {scores.shape for scores in paired}:
        alike = [i for i, scores in enumerate(paired) if scores.shape == (seeds, tasks)]
        varying = [i for i in alike if mean_squares(paired[i])[1].task > 0]
        if seeds < 2 or tasks < 2 or not varying:
            continue
        own = np.array([mean_squares(paired[i])[1].seed for i in varying])
        for i, pooled, freedom in zip(varying, *moderated_variances(own, seeds - 1), strict=True):
            estimates[i] = _with_seed_square(paired[i], pooled, freedom, of_pairs[i])
    return estimates


def _with_seed_square(y: Array, square: Array, freedom: Array, redraw: Redraw | None) -> Estimate:
    """The estimate of scores [seeds, tasks] with a seeds' square that others went into."""
    mean, squares = mean_squares(y)
    squares = squares._replace(seed=np.asarray(square), seed_freedom=np.asarray(freedom))
    redrawn = squares if redraw is None else _redrawn(y, squares, redraw)
    return estimate_from_squares(mean, squares, redrawn, *y.shape)


def _paired(first: ArrayLike, second: ArrayLike) -> Array:
    """The differences of scores [..., seeds, tasks], at the smaller number of seeds."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    seeds = min(a.shape[-2], b.shape[-2])
    return grouped(a, seeds) - grouped(b, seeds)


def grouped(scores: Array, groups: int) -> Array:
    """Scores [..., groups, tasks]: seeds averaged in `groups` groups whose sizes differ by one at most."""
    if scores.shape[-2] == groups:
        return scores
    return np.stack([part.mean(axis=-2) for part in np.array_split(scores, groups, axis=-2)], axis=-2)
