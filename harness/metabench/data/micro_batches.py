"""Micro-batches of meta-train, by which a learner measures it once before scoring: `Learner.finish`."""

from __future__ import annotations

from collections.abc import Iterator

from metabench.contracts import Examples, Source
from metabench.data.order import draw_episodes
from metabench.records.protocol import Batches, Protocol

MICRO_BATCH = 64
"""Examples of a micro-batch; at least so many where they come from support sets."""


def micro_batches(source: Source, protocol: Protocol, seed: int) -> Iterator[Examples]:
    """Yield endless micro-batches x [m, *input], y [m], the same ones at each call.

    They are labelled examples of all classes. A source that has none gives the support sets of its first
    training tasks of this protocol, as many side by side as make a micro-batch; y is then a task's own.
    """
    if type(source).batch is Source.batch:
        yield from _support_sets(source, protocol, seed)
    number = 0
    while True:
        batch = source.batch(Batches(MICRO_BATCH, MICRO_BATCH), [number], seed)
        yield Examples(batch.x[0], batch.y[0])
        number += 1


def _support_sets(source: Source, protocol: Protocol, seed: int) -> Iterator[Examples]:
    tasks = -(-MICRO_BATCH // (protocol.ways * protocol.shots))
    first = 0
    while True:
        support = draw_episodes(source, "train", protocol, range(first, first + tasks), seed).support
        yield Examples(support.x.flatten(0, 1), support.y.flatten(0, 1))
        first += tasks
