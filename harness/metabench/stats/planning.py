"""How many test tasks, test classes and training seeds an interval of a wanted width takes.

The variance of a mean over T tasks of k of C classes each, with S seeds, in the model of
`metabench.stats.redraw`:

    seed / S + (task + rest / S) / T + (units + seed units / S) · (k² / C + k (1 − k / C) / T)
    + groups · k² / G

where G is the number of groups. A class is met in k T / C tasks on average, and no number of tasks takes its
share k² / C away: below that only more classes help. With one seed the interval holds for the network that
was trained, and the first part is left out. Each part has its own quantile of t (Cochran and Cox,
"Experimental Designs", 1957, 4.14), so that more of anything never asks for more of another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from metabench.stats.intervals import CONFIDENCE, POWER, mean_squares
from metabench.stats.redraw import Array, Redraw

MOST = 10_000_000
"""Numbers beyond this are not worth planning for."""


@dataclass(frozen=True)
class Spread:
    """The variances of one score: of tasks, seeds, their rest, the effect of one class and of one group.

    seed_units: of the part of a class's effect that every seed has anew.
    """

    task: float
    seed: float = 0.0
    rest: float = 0.0
    units: float = 0.0
    groups: float = 0.0
    seed_units: float = 0.0

    def variance(self, design: Design) -> float:
        """Return the variance of the mean score of a design."""
        return sum(part for part, _ in self.parts(design))

    def parts(self, design: Design) -> list[tuple[float, float]]:
        """Return the parts of that variance, each with its degrees of freedom."""
        share = design.ways / design.classes
        units = self.units + self.seed_units / design.seeds
        of_classes = units * design.ways * (share + (1 - share) / design.tasks)
        over_tasks = (self.task + self.rest / design.seeds) / design.tasks
        parts = [(over_tasks, design.tasks - 1), (of_classes, design.classes - 1)]
        if design.groups:
            parts.append((self.groups * design.ways**2 / design.groups, design.groups - 1))
        if design.seeds > 1:
            parts.append((self.seed / design.seeds, design.seeds - 1))
        return parts


@dataclass(frozen=True)
class Design:
    """What a mean score is taken over; groups: of the classes, 0 where they are not redrawn."""

    tasks: float
    classes: float
    seeds: int
    ways: int
    groups: int = 0


def spread_of(scores: ArrayLike, redraw: Redraw) -> Spread:
    """Return the variances that scores [seeds, tasks] show; of one seed nothing is of seeds or their rest."""
    y = np.asarray(scores, dtype=np.float64)
    seeds, tasks = y.shape
    own, units, *groups = _components(redraw, y.mean(axis=0))
    if seeds < 2:
        return Spread(own, units=units, groups=sum(groups))
    rest, seed_units, *_ = _components(redraw, y - y.mean(axis=0), rows=seeds - 1)
    _, squares = mean_squares(y)
    seed = max(float(squares.seed) - float(squares.rest), 0.0) / tasks
    return Spread(
        max(own - rest / seeds, 0.0),
        seed,
        rest,
        max(units - seed_units / seeds, 0.0),
        sum(groups),
        seed_units,
    )


def _components(redraw: Redraw, scores: Array, rows: int = 1) -> list[float]:
    """Return the variances of rest, units and groups of scores [..., tasks], as the mean of so many rows."""
    squares = [np.asarray(np.square(part).sum() / rows) for part in redraw.projections(scores)]
    return [float(component) for component in redraw.components(squares)]


def planned_half_width(spread: Spread, design: Design) -> float:
    """Return half of the 95 % interval of a design."""
    return _width(spread, design, (1 + CONFIDENCE) / 2)


def detectable(spread: Spread, design: Design) -> float:
    """Return the true mean that a test at 5 % shows to be other than 0 with a chance of 80 %."""
    return _width(spread, design, (1 + CONFIDENCE) / 2, POWER)


def _width(spread: Spread, design: Design, *levels: float) -> float:
    """Return the root of all parts of the variance, each times the square of its own quantiles of t."""
    quantiles = [
        (part, sum(float(stdtrit(df, level)) for level in levels)) for part, df in spread.parts(design)
    ]
    return math.sqrt(sum(part * quantile**2 for part, quantile in quantiles))


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
