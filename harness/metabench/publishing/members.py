"""One result of a set that is verified together: what checks across results need of it, and no more.

A result of 600 tasks has some 40 kB of JSON; of ten thousand results only this much is kept in memory.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from metabench.records.cell import Cell, Status
from metabench.records.code import Code
from metabench.records.result import Result
from metabench.records.row import Row
from metabench.records.tuning import TuningRecord, row_cell
from metabench.results.keys import keys_of
from metabench.results.rows import row_of

HARDWARE = ("processor", "cores", "gpu", "gpus")
"""What results of one machine must agree on."""
SOFTWARE = ("python", "packages")
"""What results of one suite, machine and seed must agree on."""


@dataclass(frozen=True, slots=True)
class Member:
    """A result that could be read, as a row of a table with its scores, and what its checks need besides."""

    path: str
    suite: str
    row: Row
    scores: NDArray[np.float64]
    losses: NDArray[np.float32]
    configuration: str
    hardware: str
    software: str
    suite_digest: str
    dataset_plugin: str
    trained: bool
    code: Code
    components: Mapping[str, str]
    predictions: bool
    search: tuple[Cell, TuningRecord | None] | None  # where the settings of its cell were searched

    @property
    def seed(self) -> int:
        """The seed of its cell."""
        return int(self.row["seed"])

    @property
    def machine(self) -> str:
        """The name of its machine."""
        return str(self.row["machine"])

    @property
    def annotations(self) -> tuple[str, str, tuple[str, ...]]:
        """The group, the label and the expected statuses of its cell, which are part of no digest."""
        return self.row["group"], self.row["label"], tuple(self.row["expected"])

    @property
    def scored(self) -> bool:
        """Whether it ended well, with scores."""
        return bool(self.row["status"] == Status.OK and len(self.scores))


def configuration_of(cell: Cell) -> str:
    """A digest that is the same for all seeds of a cell, and for all versions of its plugins."""
    return keys_of(cell).match


def member_of(path: str, result: Result) -> Member:
    """The member for a result; raises ValueError or TypeError for a value of a kind that no run stores."""
    row, scores = row_of(result, path)
    losses = result.training.losses if result.training else ()
    environment = result.environment
    return Member(
        path=path,
        suite=sys.intern(result.cell.suite_folder),
        row=_interned(row),
        scores=scores[0],
        losses=np.array([loss for _, loss in losses], dtype=np.float32),
        configuration=sys.intern(configuration_of(result.cell)),
        hardware=_named(environment, HARDWARE),
        software=_named(environment, SOFTWARE),
        suite_digest=sys.intern(str(environment.get("suite_digest"))),
        dataset_plugin=sys.intern(str(tested_plugin(result.cell))),
        trained=bool(result.training and result.training.steps),
        code={sys.intern(kind): sys.intern(digest) for kind, digest in result.code.items()},
        components={kind: sys.intern(spec.name) for kind, spec in result.cell.components().items()},
        predictions=bool(result.predictions),
        search=_search(result),
    )


def _search(result: Result) -> tuple[Cell, TuningRecord | None] | None:
    """Return the cell and the trials of a result with searched settings; raises TypeError for others."""
    row_cell(result.cell)
    return (result.cell, result.tuning) if result.cell.tuning else None


def tested_plugin(cell: Cell) -> str | None:
    """The plugin of the data set that is tested."""
    return cell.plugins.get("test_dataset" if cell.test_dataset is not None else "dataset")


def _interned(row: Row) -> Row:
    """The row with equal texts of different rows in memory once."""
    texts = {name: sys.intern(value) for name, value in row.items() if type(value) is str}
    return cast(Row, {**row, **texts})


def _named(environment: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Facts of an environment in words, so that they can be compared and shown."""
    return sys.intern(", ".join(f"{name} {environment[name]}" for name in names if environment.get(name)))
