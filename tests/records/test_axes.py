"""Axes: one grammar for cells and results, and what a group's name says."""

from __future__ import annotations

import pytest

from helpers.results import made_cell, made_result
from metabench.records.axes import select, series_of, unit_of_work
from metabench.records.row import Series
from metabench.results.table import Results


@pytest.mark.parametrize(
    ("group", "series"),
    [("scaling-strong", "scaling"), ("scaling-weak", "weak-scaling"), ("throughput", "throughput"),
     ("accuracy", ""), ("weakly-supervised", "")],
)  # fmt: skip
def test_the_name_of_a_group_says_its_series(group: str, series: Series) -> None:
    assert series_of(group) == series


def test_an_axis_that_is_given_twice_joins_its_values_for_cells_and_for_results_alike() -> None:
    cells = [made_cell(name, seed, test_tasks=20) for name in ("maml", "reptile", "cnp") for seed in (0, 1)]
    only = ["algorithm=maml", "algorithm=reptile", "seed=1"]

    chosen = [cell.id for cell in select(cells, only, ())]

    assert chosen == [cells[1].id, cells[3].id]
    assert [row["cell"] for row in Results.of(map(made_result, cells)).where(only).rows] == chosen


def test_supervised_training_counts_examples() -> None:
    assert unit_of_work("batches of 64") == "examples"
    assert unit_of_work("5-way 1-shot") == "tasks"
