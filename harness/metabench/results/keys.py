"""The keys by which rows are grouped: digests that are equal for cells of one configuration."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from metabench.records.cell import Cell
from metabench.records.tuning import row_cell

BACKEND = ("backend", "plugins.backend")
STEP_TASKS = ("budget.tasks", "train.size")  # the size of batches is the budget's tasks
LENGTH = ("budget.steps", "budget.images", "budget.seconds", "budget.validate_every")
TASK_SIZE = ("test.ways", "test.shots", "train.ways", "train.shots")


class Keys(NamedTuple):
    """Digests that are equal for cells which differ in nothing but their seed and what a row says of each."""

    configuration: str
    match: str
    row: str  # as match, whatever settings a search chose
    work: str
    weak_work: str
    size_work: str
    length_work: str


def keys_of(cell: Cell) -> Keys:
    """Return the keys of a cell; those of a configuration are computed once for its seeds."""
    if cell.scored:  # each seed scores a state of its own
        cell = replace(cell, scored="kept", weights="")
    return _keys(_Configuration(cell.configuration, cell))


@dataclass(frozen=True, slots=True)
class _Configuration:
    """A cell whatever its seed: equal to another one with the same digest."""

    digest: str
    cell: Cell = field(compare=False)


@lru_cache(maxsize=1024)
def _keys(configuration: _Configuration) -> Keys:
    cell = configuration.cell
    match = cell.key(("seed", "plugins"))
    return Keys(
        configuration.digest,
        match,
        row_cell(cell).key(("seed", "plugins")) if cell.tuning else match,
        cell.key(("seed", *BACKEND)),
        cell.key(("seed", *BACKEND, *STEP_TASKS)),
        cell.key(("seed", "plugins.backend", *TASK_SIZE)),
        cell.key(("seed", *LENGTH)),
    )
