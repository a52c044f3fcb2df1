"""Draws by counter: the same numbers everywhere, in any slices, distinct and even."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy import stats

from metabench.data import draws

KEY = draws.key("tests", 1)


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).astype("<i8").tobytes()).hexdigest()[:16]


def test_the_mixer_is_splitmix64() -> None:
    # the first outputs of SplitMix64 seeded with 1234567, as its authors' C code gives them
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert draws.words(np.array([1234567], np.uint64), 4)[0].tolist() == known


def test_numbers_never_change() -> None:
    parts = draws.streams(KEY, range(100), 3)
    assert KEY == 0x5EB8C59D277200CB
    assert digest(parts.view(np.int64)) == "fe28c0246e4eda36"
    assert digest(draws.distinct(parts[:, 0], 5, 1000)) == "6a06248097a14ae9"
    assert digest(draws.distinct(parts[:, 1], 15, 20)) == "b920a5dc9c30059c"
    assert digest(draws.permuted(KEY, np.arange(500), 123)) == "d8b5961c362e0255"
    assert digest(np.round(draws.uniform(parts, 4) * 2**53)) == "105586c3fb2561f0"


def test_a_key_tells_its_parts_apart() -> None:
    assert len({draws.key("ab", "c"), draws.key("a", "bc"), draws.key("abc"), draws.key("ab", "c", 0)}) == 4


@pytest.mark.parametrize(("count", "bound"), [(1, 1), (2, 20), (5, 64), (20, 64), (20, 20), (30, 1000)])
def test_slices_draw_what_the_whole_draws(count: int, bound: int) -> None:
    whole = draws.distinct(draws.streams(KEY, range(64)), count, bound)
    slices = [draws.distinct(draws.streams(KEY, range(n, n + 8)), count, bound) for n in range(0, 64, 8)]
    assert (np.concatenate(slices) == whole).all()
    assert (draws.distinct(draws.streams(KEY, [40]), count, bound) == whole[40]).all()


@pytest.mark.parametrize(("count", "bound"), [(2, 2), (2, 20), (15, 20), (20, 64), (12, 600)])
def test_drawn_numbers_are_distinct_and_in_bounds(count: int, bound: int) -> None:
    drawn = draws.distinct(draws.streams(KEY, range(2000)), count, bound)
    assert drawn.min() >= 0
    assert drawn.max() < bound
    assert (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all()


@pytest.mark.parametrize(("count", "bound"), [(3, 20), (15, 20)])
def test_every_number_is_equally_likely_at_every_place(count: int, bound: int) -> None:
    drawn = draws.distinct(draws.streams(KEY, range(20_000)), count, bound)
    for place in range(count):
        assert stats.chisquare(np.bincount(drawn[:, place], minlength=bound)).pvalue > 1e-4


def test_bounds_that_differ_are_kept() -> None:
    bounds = np.arange(5, 205)
    drawn = draws.distinct_within(draws.streams(KEY, range(200)), 5, bounds, 5, 204)
    assert (drawn < bounds[:, None]).all()
    assert drawn.max() > 150


def test_more_numbers_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="count must be at most 5, got 6"):
        draws.distinct(draws.streams(KEY, range(3)), 6, 5)


@pytest.mark.parametrize("size", [1, 2, 5, 64, 1000])
def test_a_shuffle_holds_every_number_once(size: int) -> None:
    places = draws.permuted(KEY, np.arange(3 * size), size).reshape(3, size)
    assert (np.sort(places, axis=1) == np.arange(size)).all()
    if size > 5:
        assert (places[0] != places[1]).any()


def test_shuffles_are_even() -> None:
    first = np.array([draws.permuted(draws.key("shuffle", n), np.arange(1), 10)[0] for n in range(3000)])
    assert stats.chisquare(np.bincount(first, minlength=10)).pvalue > 1e-4


def test_uniform_and_normal_draws_have_their_moments() -> None:
    parts = draws.streams(KEY, range(1000))
    assert stats.kstest(draws.uniform(parts, 20, -1.0, 3.0).ravel(), "uniform", args=(-1, 4)).pvalue > 1e-4
    assert stats.kstest(draws.normal(parts, 20).ravel(), "norm").pvalue > 1e-4
