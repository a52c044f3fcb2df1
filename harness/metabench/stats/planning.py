"""How many test tasks, test classes and training seeds an interval of a wanted width takes.

The variance of a mean over T tasks of k of C classes each, with S seeds, in the model of
`metabench.stats.redraw`:

    seed / S + rest / (S T) + task / T + units · (k² / C + k (1 − k / C) / T) + groups · k² / G

where G is the number of groups. A class is met in k T / C tasks on average, and no number of tasks takes its
share k² / C away: below that only more classes help.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from metabench.stats.intervals import CONFIDENCE, POWER, mean_squares
from metabench.stats.redraw import Redraw

MOST = 10_000_000
"""Numbers beyond this are not worth planning for."""


@dataclass(frozen=True)
class Spread:
    """The variances of one score: of tasks, seeds, their rest, the effect of one class and of one group."""

    task: float
    seed: float = 0.0
    rest: float = 0.0
    units: float = 0.0
    groups: float = 0.0

    def variance(self, design: Design) -> float:
        """Return the variance of the mean score of a design."""
        fixed = self.groups * design.ways**2 / design.groups if design.groups else 0.0
        of_seeds = (self.seed + self.rest / design.tasks) / design.seeds
        share = design.ways / design.classes
        of_classes = self.units * design.ways * (share + (1 - share) / design.tasks)
        return fixed + of_seeds + self.task / design.tasks + of_classes


@dataclass(frozen=True)
class Design:
    """What a mean score is taken over; groups: of the classes, 0 where they are not redrawn."""

    tasks: float
    classes: float
    seeds: int
    ways: int
    groups: int = 0

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the interval, those of its scarcest part: classes or groups, or tasks."""
        return max(min(self.groups or self.classes, self.tasks) - 1, 1.0)


def spread_of(scores: ArrayLike, redraw: Redraw) -> Spread:
    """Return the variances that scores [seeds, tasks] show; of one seed those of seeds and rest are 0."""
    y = np.asarray(scores, dtype=np.float64)
    seeds, tasks = y.shape
    _, squares = mean_squares(y)
    rest = float(squares.rest) if seeds > 1 else 0.0
    seed = max(float(squares.seed) - rest, 0.0) / tasks if seeds > 1 else 0.0
    projected = [np.square(part).sum(-1) for part in redraw.projections(y.mean(axis=0))]
    own, units, *groups = redraw.components(projected)
    return Spread(max(float(own) - rest / seeds, 0.0), seed, rest, float(units), float(sum(groups)))


def planned_half_width(spread: Spread, design: Design) -> float:
    """Return half of the 95 % interval of a design."""
    return float(stdtrit(design.freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(spread.variance(design))


def detectable(spread: Spread, design: Design) -> float:
    """Return the true mean that a test at 5 % shows to be other than 0 with a chance of 80 %."""
    quantiles = stdtrit(design.freedom, (1 + CONFIDENCE) / 2) + stdtrit(design.freedom, POWER)
    return float(quantiles) * math.sqrt(spread.variance(design))


def tasks_for(width: float, spread: Spread, design: Design, *, power: bool = False) -> int | None:
    """Return the fewest tasks that reach a half-width; None where no number does.

    power: a difference of this size is to be found with a chance of 80 %, instead of an interval.
    """
    return _fewest(lambda tasks: _reached(width, spread, replace(design, tasks=tasks), power), 2)


def classes_for(width: float, spread: Spread, design: Design, *, power: bool = False) -> int | None:
    """Return the fewest classes that reach a half-width with the design's tasks; None where none does."""
    at_least = design.ways + 1
    return _fewest(lambda classes: _reached(width, spread, replace(design, classes=classes), power), at_least)


def _reached(width: float, spread: Spread, design: Design, power: bool) -> bool:
    return (detectable if power else planned_half_width)(spread, design) <= width


def _fewest(reached: Callable[[int], bool], at_least: int) -> int | None:
    """Return the smallest number for which `reached` holds, which it does for all greater ones."""
    high = at_least
    while not reached(high):
        if high > MOST:
            return None
        high *= 2
    low = max(high // 2, at_least)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    return high
