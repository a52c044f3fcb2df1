"""Intervals for new classes, shown by simulation on scores that depend on the classes of their task."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from metabench import stats

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

TRIALS = 300


def drawn_units(tasks: int, units: int, ways: int, generator: int) -> Numbers:
    """Distinct units of each task, [tasks, ways]."""
    rng = np.random.default_rng(generator)
    return np.argsort(rng.random((tasks, units)), axis=1)[:, :ways]


def redraw_of(units: Numbers, groups: Numbers | None = None) -> stats.Redraw:
    redraw = stats.Redraw.of(units.tolist(), [] if groups is None else groups.tolist())
    assert redraw is not None
    return redraw


def simulated(
    units: Numbers, spread: float, seeds: int = 1, groups: Numbers | None = None, generator: int = 1
) -> Array:
    """Scores [TRIALS, seeds, tasks] around 0: effects of classes (and groups) of this spread, a rest of 1.

    Seeds differ by 0.05, and by a fifth of the classes' effects.
    """
    rng = np.random.default_rng(generator)
    count = int(units.max()) + 1
    effects = spread * rng.standard_normal((TRIALS, 1, count))
    effects = effects + spread / 5 * rng.standard_normal((TRIALS, seeds, count)) * (seeds > 1)
    if groups is not None:
        effects = effects + (spread * rng.standard_normal((TRIALS, 1, count)))[..., groups]
    of_seeds = 0.05 * rng.standard_normal((TRIALS, seeds, 1)) * (seeds > 1)
    scores: Array = effects[..., units].sum(-1) + rng.standard_normal((TRIALS, seeds, len(units)))
    return scores + of_seeds


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("units", "grouped"), [(30, False), (60, False), (60, True)])
def test_an_interval_for_new_classes_covers_where_one_over_tasks_does_not(
    seeds: int, units: int, grouped: bool
) -> None:
    drawn = drawn_units(400, units, 5, generator=2)
    groups = np.arange(units) % 10 if grouped else None
    y = simulated(drawn, 0.2, seeds, groups)

    redrawn, over_tasks = stats.estimate(y, redraw_of(drawn, groups)), stats.estimate(y)

    assert 0.92 <= np.mean(np.abs(redrawn.mean) <= redrawn.half_width()) <= 0.99
    assert np.mean(np.abs(over_tasks.mean) <= over_tasks.half_width()) < 0.88
    assert np.array_equal(redrawn.task_share, over_tasks.task_share, equal_nan=True)


def test_an_interval_for_new_classes_is_never_narrower_and_stays_usable_where_classes_do_not_matter() -> None:
    drawn = drawn_units(200, 40, 5, generator=3)
    y = simulated(drawn, 0.0)

    widths = stats.estimate(y, redraw_of(drawn)).half_width() / stats.estimate(y).half_width()

    assert widths.min() >= 1
    assert np.median(widths) < 1.6


def test_comparisons_of_equals_on_the_same_classes_rarely_show_a_difference() -> None:
    drawn = drawn_units(200, 40, 5, generator=4)
    first, second = (simulated(drawn, 0.2, generator=g) for g in (5, 6))

    redrawn = stats.difference(first, second, redraw_of(drawn)).p_value() <= 0.05
    over_tasks = stats.difference(first, second).p_value() <= 0.05

    assert redrawn.mean() <= 0.075  # of 300: 0.05 + 2 standard errors
    assert over_tasks.mean() > 0.3


@pytest.mark.parametrize("units", [20, 70])
def test_the_variance_is_that_of_the_whole_covariance_matrix(units: int) -> None:
    """The smaller of two spaces is computed in, that of 50 tasks or that of the units."""
    drawn, groups = drawn_units(50, units, 4, generator=7), np.arange(units) % 9
    scores = simulated(drawn, 1.0, groups=groups)[:, 0]
    redraw = redraw_of(drawn, groups)

    members = np.zeros((50, units))
    np.put_along_axis(members, drawn, 1, axis=1)
    by_group = members @ np.eye(9)[groups]
    kernels = [np.eye(50), members @ members.T, by_group @ by_group.T]
    centre = np.eye(50) - 1 / 50
    moments = [[np.trace(centre @ a @ centre @ b) for b in kernels] for a in kernels]
    squares = [np.einsum("nt,tu,nu->n", scores, centre @ kernel @ centre, scores) for kernel in kernels]
    solved = np.linalg.solve(moments, squares)
    whole = np.flatnonzero((solved > 0).all(axis=0))[0]  # where nothing is below zero
    y, components = scores[whole], solved[:, whole]
    shares = np.array([kernel.sum() / 50**2 for kernel in kernels])
    weights = np.linalg.solve(moments, shares)
    form = centre @ sum(w * kernel for w, kernel in zip(weights, kernels, strict=True)) @ centre
    covariance = sum(c * kernel for c, kernel in zip(components, kernels, strict=True))
    spread = 2 * np.trace(form @ covariance @ form @ covariance)

    variance = redraw.variance(y)
    assert float(variance.of_mean) == pytest.approx(float(shares @ components))
    freedom = float(2 * (shares @ components) ** 2 / spread)
    assert float(variance.freedom) == pytest.approx(max(freedom, 5.0))


def test_tiers_are_those_of_the_paired_differences() -> None:
    drawn = drawn_units(150, 30, 5, generator=8)
    redraw = redraw_of(drawn)
    boards = [simulated(drawn, 0.2, seeds=3, generator=g)[0] + 0.4 * (g == 10) for g in (9, 10)]

    redrawn, over_tasks = stats.tiers(boards, redraw=redraw), stats.tiers(boards)

    difference = stats.difference(boards[0], boards[1], redraw)
    assert (redrawn.ranks != (1, 1)) == (float(difference.p_value()) <= 0.05)
    assert redrawn.detectable == pytest.approx(float(difference.detectable()))
    assert redrawn.detectable > over_tasks.detectable


def test_pairs_of_cells_pool_their_seeds_and_hold_for_new_classes() -> None:
    drawn = drawn_units(150, 30, 5, generator=11)
    redraw = redraw_of(drawn)
    pairs = [
        (simulated(drawn, 0.2, 3, generator=g)[0], simulated(drawn, 0.2, 3, generator=g + 50)[0])
        for g in range(4)
    ]

    redrawn, over_tasks = stats.differences(pairs, [redraw] * 4), stats.differences(pairs)

    for wide, narrow in zip(redrawn, over_tasks, strict=True):
        assert float(wide.mean) == float(narrow.mean)
        assert float(wide.half_width()) > float(narrow.half_width())


@pytest.mark.parametrize(
    ("units", "ways"), [(6, 2), (8, 5), (9, 9)], ids=["few classes", "most of them", "all of them"]
)
def test_nothing_is_said_of_new_classes_where_tasks_do_not_tell_theirs_apart(units: int, ways: int) -> None:
    assert stats.Redraw.of(drawn_units(50, units, ways, generator=12).tolist()) is None
    assert stats.Redraw.of([[] for _ in range(50)]) is None


def test_few_groups_stay_and_their_classes_are_redrawn() -> None:
    drawn = drawn_units(50, 40, 5, generator=13)

    few, many = (redraw_of(drawn, np.arange(40) % groups) for groups in (3, 10))

    assert (few.group_count, many.group_count) == (0, 10)
    assert few.units == 40


def test_tasks_with_all_or_none_of_their_classes_in_common_have_an_interval_for_new_groups() -> None:
    """Lake's runs: 20 classes of one of ten alphabets, two runs of each."""
    drawn = np.arange(200).reshape(10, 20).repeat(2, axis=0)
    groups = np.arange(200) // 20
    y = simulated(drawn, 0.05, groups=groups)

    redrawn = stats.estimate(y, redraw_of(drawn, groups))

    assert 0.92 <= np.mean(np.abs(redrawn.mean) <= redrawn.half_width()) <= 0.99
