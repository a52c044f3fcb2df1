"""Accuracy of one trained network under each of the four statistics that batch norm may take in the test.

    python benchmarks/batch_norm.py            SimpleShot on glyphs, 5-way 1-shot, as on the board: a minute
    python benchmarks/batch_norm.py --quick    the same code on a small budget, seconds

The weights are the same in every row: statistics change scoring alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import torch
from tabulate import tabulate

from metabench import Batches, Device, Learner, Protocol, Source, Workload
from metabench.data.micro_batches import micro_batches
from metabench.data.order import draw_episodes
from metabench.learning import STATISTICS
from metabench.stats import Estimate, estimate
from metabench_plugins.algorithms.simpleshot import SimpleShot
from metabench_plugins.datasets.glyphs import Glyphs
from metabench_plugins.metrics.accuracy import Accuracy
from metabench_plugins.networks.conv4 import Conv4

TEST = Protocol(5, 1, 5)
TASKS_AT_ONCE = 50


class Size(NamedTuple):
    """How long the features are trained, and on how many tasks they are scored."""

    steps: int
    examples: int
    tasks: int
    width: int


BOARD = Size(steps=500, examples=64, tasks=600, width=32)
QUICK = Size(steps=5, examples=16, tasks=20, width=4)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train once, score four times, print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small budget, to try the code")
    size = QUICK if parser.parse_args(arguments).quick else BOARD
    source = Glyphs().load(Device())
    trained = train(source, size)
    rows = []
    for statistics in STATISTICS:
        learner = build(statistics, size)
        with torch.no_grad():
            for own, weight in zip(learner.parameters(), trained.parameters(), strict=True):
                own.copy_(weight)
        accuracy = score(learner, source, size)
        transductive = "yes" if learner.transductive else "no"
        rows.append((statistics, 100 * accuracy.mean, 100 * accuracy.half_width(), transductive))
    print(tabulate(rows, ("statistics", "accuracy, %", "± (95 %)", "transductive"), floatfmt=".2f"))


def build(statistics: str, size: Size) -> Learner:
    """Return SimpleShot's learner with the initial weights of seed 0."""
    algorithm = SimpleShot(rate=0.003, statistics=statistics)
    batches = Batches(size.examples, algorithm.train_protocol(TEST).micro)
    workload = Workload(Glyphs().describe(), batches, TEST, size.steps, size.examples, seed=0)
    torch.manual_seed(0)
    return algorithm.build(workload, Conv4(width=size.width), Device())


def train(source: Source, size: Size) -> Learner:
    """Return a learner after `size.steps` steps; statistics of the test play no part in them."""
    learner = build("queries", size)
    batches = Batches(size.examples, 16)
    for step in range(size.steps):
        numbers = range(step * batches.units, (step + 1) * batches.units)
        learner.learn(source.batch(batches, numbers, seed=0), step, size.steps)
        learner.update(step, size.steps)
    return learner


def score(learner: Learner, source: Source, size: Size) -> Estimate:
    """Return the mean accuracy over test tasks."""
    learner.finish(micro_batches(source, TEST, seed=0))
    scores: list[float] = []
    with torch.no_grad():
        for first in range(0, size.tasks, TASKS_AT_ONCE):
            numbers = range(first, min(first + TASKS_AT_ONCE, size.tasks))
            tasks = draw_episodes(source, "test", TEST, numbers, seed=2026)
            prediction = learner.predict(learner.adapt(tasks.support), tasks.query.x)
            scores += Accuracy().score(prediction, tasks.query.y).tolist()
    return estimate([scores])


if __name__ == "__main__":
    main()
