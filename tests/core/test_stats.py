"""Statistics, shown by simulation on scores as spread as real per-task scores are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from metabench import stats

Array = NDArray[np.float64]
TRIALS = 1000


def simulated(seeds: int, tasks: int, spreads: tuple[float, float, float], generator: int) -> Array:
    """Scores [TRIALS, seeds, tasks] around 0 with these standard deviations of seed, task and rest."""
    rng = np.random.default_rng(generator)
    seed, task, rest = spreads
    y = rest * rng.standard_normal((TRIALS, seeds, tasks))
    y += seed * rng.standard_normal((TRIALS, seeds, 1))
    y += task * rng.standard_normal((TRIALS, 1, tasks))
    return y


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("seed_spread", [0.3, 1.0, 3.0])
def test_intervals_over_seeds_and_tasks_cover_as_often_as_they_say(seeds: int, seed_spread: float) -> None:
    estimated = stats.estimate(simulated(seeds, 600, (seed_spread, 8.0, 6.0), generator=11))

    assert 0.92 <= np.mean(np.abs(estimated.mean) <= estimated.half_width()) <= 0.97


def test_an_interval_over_tasks_alone_would_cover_too_rarely() -> None:
    y = simulated(3, 600, (1.0, 8.0, 6.0), generator=12)
    pooled = stats.estimate(y.reshape(TRIALS, 1, -1))

    assert np.mean(np.abs(pooled.mean) <= pooled.half_width()) < 0.85


@pytest.mark.parametrize(("seeds", "spread"), [(1, 8.0), (1, 11.0), (3, 8.0), (5, 11.0)])
def test_comparisons_of_equals_rarely_show_a_difference(seeds: int, spread: float) -> None:
    common = simulated(seeds, 600, (0.5 * (seeds > 1), 8.0, 0.0), generator=13)
    own = [simulated(seeds, 600, (0.3 * (seeds > 1), spread / 2, spread / 2), generator=g) for g in (14, 15)]

    estimated = stats.difference(common + own[0], common + own[1])

    assert np.mean(estimated.p_value() <= 0.05) <= 0.065


@pytest.mark.parametrize("spread", [8.0, 11.0])
def test_one_point_over_2000_paired_tasks_is_found(spread: float) -> None:
    rng = np.random.default_rng(16)
    base = 70 + 10 * rng.standard_normal((400, 1, 2000))
    new = base - 1.0 + spread * rng.standard_normal((400, 1, 2000))

    assert np.mean(stats.difference(new, base).p_value() <= 0.05) >= 0.9


def compared(
    cells: int, seeds: int, changes: float, generator: int, trials: int = 200
) -> tuple[Array, Array, Array]:
    """Mean, half width and p value [trials, cells] of cells whose score changes by so many points.

    2,000 tasks, a paired standard deviation of 8 points, 0.3 points between the seeds of either side.
    """
    rng = np.random.default_rng(generator)
    shape = (trials, cells, seeds)
    apart = changes + 0.3 * np.sqrt(2) * rng.standard_normal((*shape, 1))
    # 50 tasks, each with the variance of a mean of 40: as informative, and quicker
    apart = apart + 8 / np.sqrt(40) * rng.standard_normal((*shape, 50))
    estimates = [stats.differences([(cell, np.zeros_like(cell)) for cell in trial]) for trial in apart]
    figures = [[(e.mean, e.half_width(), e.p_value()) for e in trial] for trial in estimates]
    mean, half, p = np.moveaxis(np.array(figures, dtype=np.float64), -1, 0)
    return mean, half, p


@pytest.mark.parametrize(("cells", "seeds", "least"), [(1, 3, 0.4), (8, 3, 0.78), (1, 5, 0.9), (8, 5, 0.9)])
def test_one_point_over_several_seeds_is_found_in_pooled_cells(cells: int, seeds: int, least: float) -> None:
    _, _, p = compared(cells, seeds, 1.0, generator=31)

    assert np.mean([stats.holm(trial) <= 0.05 for trial in p]) >= least


@pytest.mark.parametrize(("cells", "seeds"), [(8, 3), (8, 5)])
def test_pooled_comparisons_of_equals_rarely_show_a_difference_and_cover(cells: int, seeds: int) -> None:
    mean, half, p = compared(cells, seeds, 0.0, generator=32, trials=TRIALS)

    assert np.mean(p <= 0.05) <= 0.065
    assert 0.92 <= np.mean(np.abs(mean) <= half) <= 0.97


def test_a_cell_that_varies_more_keeps_its_own_spread_and_a_constant_one_stays_exact() -> None:
    rng = np.random.default_rng(33)
    alike = [0.1 * rng.standard_normal((3, 1)) + rng.standard_normal((3, 500)) for _ in range(6)]
    varying = 5 * rng.standard_normal((3, 1)) + rng.standard_normal((3, 500))
    constant = np.full((3, 500), 2.0)

    estimates = stats.differences([(cell, np.zeros((3, 500))) for cell in (*alike, varying, constant)])

    assert float(estimates[6].half_width()) == pytest.approx(float(stats.estimate(varying).half_width()))
    assert float(estimates[7].p_value()) < 1e-12
    assert float(estimates[0].freedom) > 5


def blocks(trials: int, slowdown: float, generator: int) -> tuple[Array, Array]:
    """Block times of a paired timing cell: noise of 2 %, a drift that both share, and rare outliers."""
    rng = np.random.default_rng(generator)
    drift = 1 + 0.15 * np.sin(np.linspace(0, 3, 20))[None] * rng.standard_normal((trials, 1))
    sides = [0.02 * drift * (1 + 0.02 * rng.standard_normal((trials, 20))) for _ in range(2)]
    for side in sides:
        side[rng.random(side.shape) < 0.01] *= 1.5
    return sides[0], sides[1] * (1 + slowdown)


def test_a_slowdown_of_ten_per_cent_is_found_by_paired_blocks() -> None:
    base, new = blocks(200, slowdown=0.10, generator=17)
    ratios = [stats.time_ratio(b, a) for a, b in zip(base, new, strict=True)]

    assert np.mean([r.low > 1 for r in ratios]) >= 0.9
    assert np.median([r.ratio for r in ratios]) == pytest.approx(1.10, abs=0.01)


def test_paired_blocks_of_equals_rarely_show_a_slowdown() -> None:
    base, new = blocks(TRIALS, slowdown=0.0, generator=18)
    ratios = [stats.time_ratio(b, a) for a, b in zip(base, new, strict=True)]

    assert np.mean([r.low > 1 or r.high < 1 for r in ratios]) <= 0.065


def test_a_ratio_of_block_times_has_the_interval_of_welch() -> None:
    rng = np.random.default_rng(20)
    new, base = np.exp(0.01 * rng.standard_normal(30)), 2 * np.exp(0.02 * rng.standard_normal(12))

    spreads = (float(new.std(ddof=1)), float(base.std(ddof=1)))
    ratio, low, high = stats.welch_ratio(float(new.mean()), float(base.mean()), spreads, (30, 12))

    expected = scipy_stats.ttest_ind(np.log(new), np.log(base), equal_var=False).confidence_interval(0.95)
    assert low is not None
    assert high is not None
    assert (ratio, low, high) == pytest.approx((0.5, np.exp(expected.low), np.exp(expected.high)), rel=0.01)
    assert stats.welch_ratio(1.0, 2.0, (0.1, None), (30, 1)) == (0.5, None, None)


def test_one_seed_gives_the_paired_t_test_of_scipy() -> None:
    rng = np.random.default_rng(19)
    a, b = rng.standard_normal((2, 300)) + 0.1

    estimated = stats.difference(a[None], b[None])

    expected = scipy_stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert float(estimated.p_value()) == pytest.approx(expected.pvalue, rel=1e-9)
    assert float(estimated.mean + estimated.half_width()) == pytest.approx(interval.high, rel=1e-9)


def test_equivalence_is_shown_only_within_the_margin() -> None:
    rng = np.random.default_rng(20)
    close = stats.estimate(0.002 + 0.08 * rng.standard_normal((1, 600)))
    coarse = stats.estimate(0.002 + 0.08 * rng.standard_normal((1, 20)))

    assert float(close.p_equal(0.02)) < 0.001
    assert float(close.p_equal(0.001)) > 0.05
    assert float(coarse.p_value()) > 0.05  # no difference shown …
    assert float(coarse.p_equal(0.02)) > 0.05  # … which is not equality


def test_equivalence_holds_its_error_at_the_margin() -> None:
    y = simulated(1, 200, (0.0, 8.0, 0.0), generator=21) + 2.0  # the true difference is the margin

    assert np.mean(stats.estimate(y).p_equal(2.0) <= 0.05) <= 0.065


def test_equal_scores_are_shown_within_the_margin_and_not_beyond_it() -> None:
    rng = np.random.default_rng(19)
    base = 0.7 + 0.08 * rng.standard_normal((1, 600))
    moved = {gain: base + gain + 0.04 * rng.standard_normal((1, 600)) for gain in (0.0, 0.01, 0.03)}

    equal = {gain: stats.equal_scores(scores, base, share=True) for gain, scores in moved.items()}

    assert equal == {0.0: True, 0.01: True, 0.03: False}
    assert stats.equal_scores(base[:, :2], base[:, :2], share=True)  # identical, however few
    assert stats.equal_margin(base, 2 * base, share=False) == pytest.approx(0.1 * base.mean())
    assert not stats.equal_scores([[0.7, 0.5]], [[0.5, 0.7]], share=True)  # too few to show anything


def test_variance_shares_find_where_the_spread_comes_from() -> None:
    estimated = stats.estimate(simulated(5, 300, (3.0, 8.0, 6.0), generator=22))

    total = 3.0**2 + 8.0**2 + 6.0**2
    assert np.mean(estimated.seed_share) == pytest.approx(9 / total, abs=0.02)
    assert np.mean(estimated.task_share) == pytest.approx(64 / total, abs=0.02)
    assert np.allclose(estimated.seed_share + estimated.task_share + estimated.rest_share, 1)


def test_equal_scores_have_no_width_and_no_difference() -> None:
    y = np.full((3, 50), 0.7)

    assert float(stats.estimate(y).half_width()) == 0
    assert float(stats.difference(y, y).p_value()) == 1
    assert float(stats.difference(y, y - 0.1).p_value()) < 1e-12


def test_seeds_that_all_score_alike_count_once() -> None:
    tasks = np.random.default_rng(23).standard_normal(400)

    estimated = stats.estimate(np.stack([tasks] * 3))

    assert float(estimated.half_width()) == pytest.approx(stats.half_width(tasks.std(ddof=1), 400), rel=1e-6)


def test_a_single_task_has_no_interval() -> None:
    assert np.isinf(stats.estimate([[0.5]]).half_width())


def test_different_numbers_of_seeds_are_paired_by_groups() -> None:
    rng = np.random.default_rng(24)
    task = rng.standard_normal(300)
    many, few = task + 0.1 * rng.standard_normal((5, 300)), task + 0.1 * rng.standard_normal((2, 300))

    estimated = stats.difference(many, few)

    assert float(estimated.mean) == pytest.approx(many[:3].mean() / 2 + many[3:].mean() / 2 - few.mean())
    assert float(estimated.half_width()) < 0.3


def test_holm_agrees_with_the_worked_example_of_its_definition() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def competitors(means: list[float], tasks: int = 2000, seeds: tuple[int, ...] = ()) -> list[Array]:
    rng = np.random.default_rng(25)
    task = 0.1 * rng.standard_normal(tasks)
    counts = seeds or (1,) * len(means)
    return [m + task + 0.08 * rng.standard_normal((n, tasks)) for m, n in zip(means, counts, strict=True)]


def test_those_that_cannot_be_told_apart_share_a_rank() -> None:
    ranking = stats.tiers(competitors([0.700, 0.701, 0.75, 0.5]))

    assert ranking.ranks == (2, 2, 1, 4)
    assert 0.004 < ranking.detectable < 0.012


def test_a_lower_score_ranks_first_where_lower_is_better() -> None:
    assert stats.tiers(competitors([0.7, 0.5, 0.6]), higher_is_better=False).ranks == (3, 1, 2)


def test_ranks_of_equals_are_all_first_nearly_always() -> None:
    rng = np.random.default_rng(26)
    alone = 0
    for _ in range(200):
        task = 8 * rng.standard_normal(200)
        ranking = stats.tiers([task + 8 * rng.standard_normal((1, 200)) for _ in range(6)])
        alone += max(ranking.ranks) > 1
    assert alone / 200 <= 0.08  # 5 % over the whole board, and the spread of 200 trials


def test_a_pair_on_a_board_of_two_is_the_paired_test() -> None:
    for seeds in ((1, 1), (3, 3), (3, 5)):
        scores = competitors([0.7, 0.71], tasks=200, seeds=seeds)

        mean, p, _ = stats.all_pairs(scores, 0.05)

        pair = stats.difference(*scores)
        assert mean[0, 1] == pytest.approx(float(pair.mean), abs=1e-12)
        assert p[0, 1] == pytest.approx(float(pair.p_value()), rel=1e-6)


def seeded(means: list[float], spreads: list[float], generator: int) -> list[Array]:
    """Scores [3 seeds, 300 tasks] in points, with these standard deviations between seeds."""
    rng = np.random.default_rng(generator)
    task = 8 * rng.standard_normal(300)
    return [
        m + task + s * rng.standard_normal((3, 1)) + 6 * rng.standard_normal((3, 300))
        for m, s in zip(means, spreads, strict=True)
    ]


def test_three_seeds_tell_three_points_apart_on_a_board_of_eight() -> None:
    means = [70.0] * 4 + [73.0] * 4
    ranks = np.array([stats.tiers(seeded(means, [0.4] * 8, g)).ranks for g in range(50)])

    assert np.mean(ranks[:, 4:] == 1) >= 0.95  # the better four share the first rank
    assert np.mean(ranks[:, :4] - 1) / 4 >= 0.85  # and so often one of them is shown to beat one of the rest


def test_a_worse_mean_never_has_a_better_tier() -> None:
    # the last but one varies so much between seeds that no test shows it to be worse than anything
    means, spreads = [1.0, 9.0, 13.0, 30.0, 45.0], [0.2, 0.2, 0.2, 14.0, 0.2]

    for generator in range(50):
        scores = seeded([-m for m in means], spreads, generator)
        ranking = stats.tiers(scores)
        order = np.argsort([-s.mean() for s in scores])
        ranks = np.array(ranking.ranks)[order]

        assert ranks.tolist() == sorted(ranks)
        assert ranks[0] == 1


def test_the_rows_of_one_tier_are_not_shown_to_differ() -> None:
    for generator in range(50):
        rng = np.random.default_rng(generator)
        scores = seeded(list(rng.uniform(60, 70, 8)), list(rng.choice([0.2, 3.0], 8)), generator)

        ranks = np.array(stats.tiers(scores).ranks)

        first, second = np.triu_indices(8, 1)
        _, p, _ = stats.all_pairs(scores, 0.05)
        together = ranks[first] == ranks[second]
        assert not np.any(stats.holm(p[first, second])[together] <= 0.05)


@pytest.mark.parametrize(
    ("spreads", "most"),
    [([0.5] * 8, 0.065), ([0.0] * 7 + [3.0], 0.1), ([0.2] * 4 + [1.0] * 4, 0.1)],
    ids=["alike", "one varying more", "two kinds"],
)
def test_equals_that_vary_between_seeds_share_the_first_rank(spreads: list[float], most: float) -> None:
    ranks = [stats.tiers(seeded([70.0] * 8, spreads, g)).ranks for g in range(400)]

    # 5 % over the whole board where all vary alike; pooling costs a little where they do not
    assert np.mean([max(ranks) > 1 for ranks in ranks]) <= most


def test_blocks_that_spread_are_called_unstable() -> None:
    rng = np.random.default_rng(27)
    steady = 0.02 * (1 + 0.02 * rng.standard_normal(20))

    assert stats.unstable(steady) is False
    assert stats.unstable(0.02 * (1 + 0.15 * rng.standard_normal(20))) is True
    assert stats.unstable([*steady, 0.031]) is True
    assert stats.unstable(steady[:2]) is None


def test_time_to_target_follows_the_rule_of_mlperf() -> None:
    assert stats.time_to_target([10.0, 20.0]).seconds is None
    assert stats.time_to_target([10.0, 20.0, 30.0]).seconds == 20
    assert stats.time_to_target([1.0, 10.0, 20.0, 30.0, 500.0]).seconds == 20
    assert stats.time_to_target([1.0, 10.0, 20.0, 30.0, None]).seconds == 20
    assert stats.time_to_target([10.0, 20.0, None]).seconds is None
    assert stats.time_to_target([1.0, 2.0, 3.0, None, None]).seconds is None
