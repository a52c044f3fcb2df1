"""Tasks of one table each, from a tensor of the rows of all tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metabench import Examples, Invalid, Protocol, Source, Split
from metabench.data import ClassIndex, Drawn, TensorSource, draws
from metabench.device import Device
from metabench.records import Batches

Rows = Mapping[str, Mapping[str, np.ndarray[Any, Any]]]
"""The rows [n, width] of each class of each table."""


def table_tasks(rows: Rows, device: Device, content: str = "") -> Source:
    """Return a source whose tasks take the classes of one table; content: see `TensorSource`."""
    names = [f"{table}/{label}" for table, classes in rows.items() for label in classes]
    parts = [part for classes in rows.values() for part in classes.values()]
    index = ClassIndex.of_counts(names, [len(part) for part in parts])
    source = _TableTasks("tables", np.concatenate(parts), {"test": index}, device, content=content)
    source.classes = np.cumsum([0, *(len(classes) for classes in rows.values())])
    return source


class _TableTasks(TensorSource):
    classes: np.ndarray[Any, Any]
    """[tables + 1]: the number of the first class of each table, and of all classes."""

    def shape(self, split: Split, protocol: Protocol, index: int, seed: int) -> Protocol:
        """Return a shape with all classes of the table of this number, up to the protocol's most."""
        drawn = super().shape(split, protocol, index, seed)
        return drawn.with_ways(min(protocol.ways, int(np.diff(self.classes)[self._table(index, 1)])))

    def draw(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Drawn:
        """Return classes and rows of each task; those of one table are drawn together."""
        taken, fewest = protocol.shots + protocol.queries, self.splits[split].fewest
        if taken > fewest:
            raise Invalid(
                f"shots + queries must be at most {fewest}, rows of the smallest class, got {taken}"
            )
        tables = np.array([self._table(number, protocol.ways) for number in indices])
        places = [np.flatnonzero(tables == table) for table in np.unique(tables)]
        parts = [
            self._of_table(
                split, int(tables[part[0]]), protocol, [indices[int(place)] for place in part], seed
            )
            for part in places
        ]
        back = np.argsort(np.concatenate(places))  # to the order that was asked for
        return Drawn(*(np.concatenate(arrays)[back] for arrays in zip(*parts, strict=True)))

    def batch(self, batches: Batches, indices: Sequence[int], seed: int) -> Examples:
        """Raise Invalid: the tables are there to be scored."""
        raise Invalid("tables has test tasks only: train on another data set, and name it as test_dataset")

    def _of_table(
        self, split: Split, table: int, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Drawn:
        first, last = int(self.classes[table]), int(self.classes[table + 1])
        index = self.splits[split]
        shape = (protocol.ways, protocol.shots, protocol.queries)
        key = draws.key("metabench", "tables", index.names[first], split, *shape, seed)
        drawn = index.only(index.names[first:last]).draw(key, protocol, indices)
        return drawn._replace(classes=drawn.classes + first)

    def _table(self, number: int, ways: int) -> int:
        """Return the table of a task: by its number, of those that have so many classes."""
        counts = np.diff(self.classes)
        own = number % len(counts)
        if counts[own] >= ways:
            return own
        eligible = np.flatnonzero(counts >= ways)
        if not len(eligible):
            raise Invalid(
                f"ways must be at most {counts.max()}, the classes of the largest table, got {ways}"
            )
        return int(eligible[number % len(eligible)])
