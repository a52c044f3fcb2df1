"""How often intervals over tasks, and for new classes, hold the true mean; shown on real scores.

    python benchmarks/intervals.py            some minutes: trains ten small networks, redraws test splits
    python benchmarks/intervals.py --quick    the same code with less of everything, half a minute
    python benchmarks/intervals.py --pool F   keep the embedded drawings in F, and take them from there

Each trial draws other characters (or whole alphabets) of Omniglot as its test split and 600 tasks of them,
5-way 1-shot. The truth is the mean over tasks of all 1,623 characters. Networks are prototypical, trained
on the letters of `glyphs`; equals are two of them, whose true difference is taken off.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from _pool import Array, Numbers, Pool, make_pool
from tabulate import tabulate

from metabench import stats

WAYS, SHOTS, QUERIES = 5, 1, 5
DIFFERENCE = 0.03


class Size(NamedTuple):
    """How many networks are trained for how long, how many splits are drawn, and tasks of the truth."""

    networks: int
    steps: int
    width: int
    trials: int
    truth: int


FULL = Size(networks=10, steps=60, width=16, trials=100, truth=10_000)
QUICK = Size(networks=4, steps=2, width=4, trials=10, truth=5000)


class Split(NamedTuple):
    """A test split and its tasks; alphabets: so many whole ones are drawn instead of characters."""

    characters: int
    tasks: int
    seeds: int = 1
    alphabets: int = 0

    def __str__(self) -> str:
        of = f"{self.alphabets} alphabets" if self.alphabets else f"{self.characters} characters"
        return f"{of}, {self.tasks:,} tasks, {self.seeds} seed{'s' if self.seeds > 1 else ''}"


COVERED = (
    Split(20, 600), Split(50, 600), Split(106, 600), Split(423, 600), Split(106, 2000), Split(106, 600, 3),
    Split(0, 600, 1, 10), Split(0, 600, 1, 20),
)  # fmt: skip
POWERED = tuple(
    Split(characters, tasks, seeds)
    for seeds in (1, 3)
    for characters, tasks in ((50, 600), (106, 600), (106, 2000), (423, 600))
)


PLANNED_TASKS = (600, 2000, 10_000)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print how often intervals hold the truth, equals are called different, and 3 points are found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less of everything, to try the code")
    parser.add_argument("--pool", type=Path, help="where the embedded drawings are kept")
    given = parser.parse_args(arguments)
    size = QUICK if given.quick else FULL
    pool = _pool(size, given.pool)
    tasks = drawn(np.random.default_rng(0), np.arange(pool.characters), size.truth)
    truth = pool.scores(range(size.networks), tasks, SHOTS, QUERIES, seed=0).mean(axis=1)
    heads = (
        "test split",
        "over tasks",
        "new classes",
        "± over tasks",
        "± new classes",
        "A/A tasks",
        "A/A classes",
    )
    rows = [(str(split), *coverage(pool, truth, split, size.trials)) for split in COVERED]
    rows.append(("all of these", *np.mean([row[1:] for row in rows], axis=0)))
    print(tabulate(rows, heads, floatfmt=".1f"), flush=True)
    powers = [(str(split), *power(pool, truth, split, size.trials * 2 // 5)) for split in POWERED]
    print("\n" + tabulate(powers, ("test split", "3 points found, %", "detectable, points"), floatfmt=".1f"))
    heads = ("seeds", "test characters", *(f"detectable with {tasks:,} tasks" for tasks in PLANNED_TASKS))
    print("\n" + tabulate(planned(pool), heads, floatfmt=".1f"))


def _pool(size: Size, file: Path | None) -> Pool:
    if file is not None and file.exists():
        content = torch.load(file, weights_only=True)
        return Pool(content["features"], content["alphabets"].numpy())
    pool = make_pool(size.networks, size.steps, size.width)
    if file is not None:
        torch.save({"features": pool.features, "alphabets": torch.from_numpy(pool.alphabets)}, file)
    return pool


def drawn(rng: np.random.Generator, characters: Numbers, tasks: int) -> Numbers:
    """Return tasks [tasks, ways] of different characters."""
    parts = [
        rng.random((min(1000, tasks - first), len(characters))).argpartition(WAYS, axis=1)[:, :WAYS]
        for first in range(0, tasks, 1000)
    ]
    return characters[np.concatenate(parts)]


def trials(pool: Pool, split: Split, count: int) -> Iterator[tuple[Array, Numbers, stats.Redraw]]:
    """Yield scores [2, seeds, tasks] of two sides, the networks [2, seeds], and what redraws the classes."""
    rng = np.random.default_rng([split.characters, split.tasks, split.seeds, split.alphabets])
    for trial in range(count):
        characters = rng.permutation(pool.characters)[: split.characters]
        if split.alphabets:
            chosen = rng.permutation(pool.alphabets.max() + 1)[: split.alphabets]
            characters = np.flatnonzero(np.isin(pool.alphabets, chosen))
        tasks = drawn(rng, characters, split.tasks)
        networks = rng.permutation(len(pool.features))[: 2 * split.seeds]
        if len(networks) < 2 * split.seeds:  # a quick run has too few for three seeds of two sides
            networks = rng.integers(len(pool.features), size=2 * split.seeds)
        scores = pool.scores(networks.tolist(), tasks, SHOTS, QUERIES, seed=trial)
        redraw = stats.Redraw.of(tasks.tolist(), pool.alphabets.tolist() if split.alphabets else [])
        assert redraw is not None
        yield scores.reshape(2, split.seeds, -1), networks.reshape(2, -1), redraw


def coverage(pool: Pool, truth: Array, split: Split, count: int) -> tuple[float, ...]:
    """Return how often both intervals hold the truth and call equals different, and their widths, in %."""
    figures: list[list[float]] = []
    for scores, networks, redraw in trials(pool, split, count):
        own = truth if split.seeds == 1 else np.full_like(truth, truth.mean())  # networks are redrawn too
        true = own[networks].mean(axis=1)
        apart = scores[0] - scores[1] - (true[0] - true[1])
        line = []
        for by in (None, redraw):
            estimate = stats.estimate(scores, by)
            half = estimate.half_width()
            held = float(np.mean(np.abs(estimate.mean - true) <= half))
            line += [held, float(half.mean()), float(stats.estimate(apart, by).p_value() <= 0.05)]
        figures.append(line)
    held, half, called, new_held, new_half, new_called = 100 * np.mean(figures, axis=0)
    return held, new_held, half, new_half, called, new_called


def planned(pool: Pool) -> list[tuple[float, ...]]:
    """Return the differences in points that designs find, by how the networks of a pool differ."""
    split = Split(pool.characters, 5000, len(pool.features) // 2)
    ((first, second), _, redraw) = next(trials(pool, split, 1))
    spread = stats.spread_of(first - second, redraw)
    return [
        (
            seeds, classes,
            *(
                100 * stats.detectable(spread, stats.Design(tasks, classes, seeds, WAYS))
                for tasks in PLANNED_TASKS
            ),
        )
        for seeds in (1, 3, 5, 10, 20)
        for classes in (50, 106, 423, 1692)
    ]  # fmt: skip


def power(pool: Pool, truth: Array, split: Split, count: int) -> tuple[float, float]:
    """Return how often a true difference of 3 points is found for new classes, in %, and what would be."""
    detected, least = [], []
    for scores, networks, redraw in trials(pool, split, count):
        true = truth[networks].mean(axis=1)
        estimate = stats.estimate(scores[0] - scores[1] - (true[0] - true[1]) + DIFFERENCE, redraw)
        detected.append(float(estimate.p_value() <= 0.05))
        least.append(float(estimate.detectable()))
    return 100 * float(np.mean(detected)), 100 * float(np.mean(least))


if __name__ == "__main__":
    main()
