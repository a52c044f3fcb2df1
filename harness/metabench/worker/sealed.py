"""A data set without its test split: all that a trial of a search can see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metabench.contracts import ClassUnits, Episodes, Examples, Source
from metabench.errors import Invalid
from metabench.records.cell import Split
from metabench.records.protocol import Batches, Protocol


class WithoutTest(Source):
    """A source that raises Invalid for whatever is asked of its test split."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        """Return the tasks of these numbers."""
        _require_open(split)
        return self._source.episodes(split, protocol, indices, seed)

    def shape(self, split: Split, protocol: Protocol, index: int, seed: int) -> Protocol | None:
        """Return the shape of the task of this number."""
        _require_open(split)
        return self._source.shape(split, protocol, index, seed)

    def batch(self, batches: Batches, indices: Sequence[int], seed: int) -> Examples:
        """Return micro-batches of meta-train."""
        return self._source.batch(batches, indices, seed)

    def manifest(
        self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Mapping[str, Any]:
        """Return what each task is made of."""
        _require_open(split)
        return self._source.manifest(split, protocol, indices, seed)

    def class_units(self, split: Split) -> ClassUnits | None:
        """Return which classes of a split belong together."""
        _require_open(split)
        return self._source.class_units(split)


def _require_open(split: Split) -> None:
    if split == "test":
        raise Invalid("a trial of a search must choose settings by validation tasks, it asked for test tasks")
