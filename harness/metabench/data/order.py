"""The order of a task's examples: drawn for each task, so that a place tells nothing of a label.

A source may lay a task's examples class by class, and a manifest describes them in that order. Whoever hands
tasks to a learner draws them with `draw_episodes`. Orders are golden, like all draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metabench.contracts import Episodes, Examples, Source
from metabench.data import draws
from metabench.data.device_draws import DeviceDraws, draws_there
from metabench.records.cell import Split
from metabench.records.protocol import Protocol

_QUERIES = 1 << 32  # queries take the words of a task's stream from here on, whatever the support's size


class Order(NamedTuple):
    """For each place of a shuffled task, the place of its example in the manifest: [T, n] and [T, q]."""

    support: draws.Numbers
    query: draws.Numbers


def orders(split: Split, indices: Sequence[int] | NDArray[Any], seed: int, support: int, query: int) -> Order:
    """The orders of these tasks, of `support` and `query` examples each.

    A pure function of (seed, split, task number, size): the order of one SplitMix64 word an example.
    """
    streams = draws.streams(_key(split, seed), indices)
    return Order(
        np.argsort(draws.words(streams, support), axis=1, kind="stable"),
        np.argsort(draws.words(streams, query, _QUERIES), axis=1, kind="stable"),
    )


def draw_episodes(
    source: Source, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
) -> Episodes:
    """The tasks of these numbers, the examples of each in an order that tells nothing."""
    return shuffled(source.episodes(split, protocol, indices, seed), split, indices, seed)


def shuffled(episodes: Episodes, split: Split, indices: Sequence[int], seed: int) -> Episodes:
    """The same tasks with the support and the queries of each in an order of its own; see `orders`."""
    device = episodes.support.x.device
    support, query = episodes.support.x.shape[1], episodes.query.x.shape[1]
    if draws_there(device):
        draw = DeviceDraws(device)
        streams = draw.streams(_key(split, seed), indices)
        places = [draw.order(streams, support), draw.order(streams, query, _QUERIES)]
    else:
        order = orders(split, indices, seed, support, query)
        places = [torch.from_numpy(part).to(device) for part in order]
    return episodes._replace(
        support=_taken(episodes.support, places[0]), query=_taken(episodes.query, places[1])
    )


def _key(split: Split, seed: int) -> int:
    return draws.key("order", split, seed)


def _taken(examples: Examples, order: Tensor) -> Examples:
    """The examples of each task in this order, [T, n]."""
    x, y = examples
    tasks, count = order.shape
    rows = (order + torch.arange(tasks, device=order.device)[:, None] * count).flatten()
    return Examples(_rows(x, rows), _rows(y, rows))


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    return values.flatten(0, 1).index_select(0, rows).view(values.shape)
