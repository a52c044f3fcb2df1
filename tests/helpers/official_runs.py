"""A data set whose test tasks are an official list, as Lake's twenty runs are, and its faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metabench import Dataset, Episodes, Examples, Facts, Invalid, Protocol, Source, Split, hookimpl, setting
from metabench.data import ClassIndex, TensorSource, draws
from metabench.device import Device
from metabench.records import Batches

RUNS = 12
OFFICIAL_SEED = 2015
CLASSES: dict[Split, int] = {"train": 12, "test": 9}


@dataclass(frozen=True, kw_only=True)
class OfficialRuns(Dataset):
    """Points of 21 classes; the test tasks are twelve that are given, whatever the seed."""

    name = "official-runs"
    fault: str = setting("none", "what is wrong", choices=("none", "unstated", "seeded", "endless"))

    def describe(self) -> Facts:
        """Return constants."""
        classes = {str(split): count for split, count in CLASSES.items()}
        tasks = {} if self.fault == "unstated" else {"test": RUNS}
        return Facts("classification", (8,), None, classes, dict.fromkeys(classes, 6), tasks=tasks)

    def load(self, device: Device) -> Source:
        """Draw the points."""
        every = sum(CLASSES.values()) * 6
        points = draws.uniform(draws.streams(draws.key("runs"), np.arange(every)), 8, -1.0, 1.0)
        splits: dict[Split, ClassIndex] = {}
        first = 0
        for split, count in CLASSES.items():
            splits[split] = ClassIndex.of_counts([f"{split}{n}" for n in range(count)], [6] * count, first)
            first += 6 * count
        return _Runs(TensorSource("runs", points.astype(np.float32), splits, device), self.fault)


class _Runs(Source):
    def __init__(self, table: TensorSource, fault: str) -> None:
        self.table, self.fault = table, fault

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        return self.table.episodes(split, protocol, indices, self._seed(split, indices, seed))

    def batch(self, batches: Batches, indices: Sequence[int], seed: int) -> Examples:
        return self.table.batch(batches, indices, seed)

    def manifest(
        self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        return self.table.manifest(split, protocol, indices, self._seed(split, indices, seed))

    def _seed(self, split: Split, indices: Sequence[int], seed: int) -> int:
        if split != "test":
            return seed
        if self.fault != "endless" and any(number >= RUNS for number in indices):
            raise Invalid(f"there are {RUNS} official runs")
        return seed if self.fault == "seeded" else OFFICIAL_SEED


@hookimpl
def metabench_datasets() -> list[type[Dataset]]:
    return [OfficialRuns]
