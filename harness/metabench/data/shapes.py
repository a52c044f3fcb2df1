"""The shape of each task, where a protocol's ways, shots or queries are ranges.

A shape is a pure function of (protocol, split, seed, task number). Whoever runs tasks groups them by shape
with `groups`, so that a batch is rectangular and a learner never sees padding.

The rule "meta-dataset" is that of E. Triantafillou et al.: Meta-Dataset: A Dataset of Datasets for Learning
to Learn from Few Examples, ICLR 2020, section 3.2, for classes of n images each (n: of the split's smallest):
ways k, uniform in the range; queries of a class q = min(Q, ⌊n/2⌋), with the paper's Q = 10 the protocol's; a
support set of min(500, k ⌈β min(100, n − q)⌉) examples with β uniform in (0, 1]; of which class c has
min(⌊R_c (|support| − k)⌋ + 1, n − q), where R_c is proportional to exp(α_c), α_c uniform in [log ½, log 2).
It draws classes uniformly, without the paper's hierarchies of ImageNet and Omniglot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from metabench.contracts import Source
from metabench.data import draws
from metabench.errors import Invalid
from metabench.records.cell import Split
from metabench.records.protocol import Protocol, UnevenProtocol, VariedProtocol

SUPPORT_AT_MOST = 500
"""Support examples of a task at most, by the rule "meta-dataset"."""
SHOTS_COUNTED = 100
"""Images of a class at most that the size of a support set grows with, by the same rule."""


def draw_shape(protocol: Protocol, split: Split, index: int, seed: int, images: int = 0) -> Protocol:
    """Return the shape of the task of this number: `protocol` itself unless it has ranges.

    images: of the split's smallest class, 0 where they are endless. Raises Invalid for a rule that needs a
    number there.
    """
    if not isinstance(protocol, VariedProtocol):
        return protocol
    stream = draws.streams(draws.key("shape", split, seed), [index])
    at = iter(draws.uniform(stream, 3 + protocol.ways)[0].tolist())
    ways = _within(protocol.least_ways, protocol.ways, next(at))
    queries = _within(protocol.least_queries, protocol.queries, next(at))
    whole = next(at)
    if protocol.sampling == "uniform":
        return Protocol(ways, _within(protocol.least_shots, protocol.shots, whole), queries)
    if protocol.sampling == "meta-dataset":
        return _of_meta_dataset(protocol, ways, images, whole, [next(at) for _ in range(ways)])
    return _uneven([_within(protocol.least_shots, protocol.shots, next(at)) for _ in range(ways)], queries)


def shape_of(source: Source, split: Split, protocol: Protocol, index: int, seed: int) -> Protocol:
    """Return the shape of the task of this number, by the source's own rule where it has one."""
    if not isinstance(protocol, VariedProtocol):
        return protocol
    return source.shape(split, protocol, index, seed) or draw_shape(protocol, split, index, seed)


def groups(
    source: Source, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
) -> list[tuple[Protocol, Sequence[int]]]:
    """Return the shapes of these tasks in order of appearance, each with the numbers of its tasks."""
    if not isinstance(protocol, VariedProtocol):
        return [(protocol, indices)]
    by_shape: dict[Protocol, list[int]] = {}
    for index in indices:
        by_shape.setdefault(shape_of(source, split, protocol, index, seed), []).append(index)
    return list(by_shape.items())


def _of_meta_dataset(
    protocol: VariedProtocol, ways: int, images: int, share: float, alphas: Iterable[float]
) -> Protocol:
    if images < 2:
        raise Invalid('sampling "meta-dataset" needs classes with a finite number of images, two at least')
    queries = min(protocol.queries, images // 2)
    left = images - queries
    support = min(SUPPORT_AT_MOST, ways * math.ceil((1 - share) * min(SHOTS_COUNTED, left)))
    weights = [math.exp(math.log(0.5) + alpha * (math.log(2) - math.log(0.5))) for alpha in alphas]
    total = math.fsum(weights)
    most = min(left, protocol.shots)
    return _uneven(
        [min(math.floor(weight / total * (support - ways)) + 1, most) for weight in weights], queries
    )


def _uneven(shots: Sequence[int], queries: int) -> Protocol:
    if len(set(shots)) == 1:
        return Protocol(len(shots), shots[0], queries)
    return UnevenProtocol(len(shots), max(shots), queries, tuple(shots))


def _within(least: int, most: int, at: float) -> int:
    """Return the whole number of a range, both ends included, at a place in [0, 1)."""
    return least + int(at * (most - least + 1))
