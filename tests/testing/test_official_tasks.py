"""Official lists of tasks: accepted where they are stated and kept, refused where a suite asks for more."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.official_runs import RUNS, OfficialRuns
from metabench import Invalid
from metabench.device import Device
from metabench.errors import SuiteError
from metabench.plugins import Registry, load
from metabench.records import Cell, Spec
from metabench.suite import read
from metabench.testing import ContractError, check_dataset
from metabench.worker.cell_run import build

SUITE = """
name = "runs"
version = 1

[[cells]]
algorithm = "nearest-neighbour"
dataset = {{name = "official-runs", fault = "{fault}"}}
test = {{ways = 5, shots = 1, queries = 2}}
evaluation = {{tasks = {tasks}}}
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    own = EntryPoint("runs", "helpers.official_runs", "metabench")
    return load([own, *entry_points(group="metabench")])


def cell_of(registry: Registry, folder: Path, tasks: int, fault: str = "none") -> Cell:
    path = folder / "runs.toml"
    path.write_text(SUITE.format(tasks=tasks, fault=fault))
    (cell,) = read(registry, str(path)).cells
    return cell


def test_an_official_list_passes_the_checks() -> None:
    check_dataset(OfficialRuns())


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("unstated", "where its tasks are an official list, say so in Facts.tasks"),
        ("seeded", "has 12 official tasks, but another seed draws others"),
        ("endless", "has 12 official tasks"),
    ],
)
def test_a_list_that_is_not_what_it_says_is_refused(fault: str, says: str) -> None:
    with pytest.raises(ContractError, match=says):
        check_dataset(OfficialRuns(fault=fault))


def test_a_suite_that_asks_for_more_than_the_list_has_is_refused(registry: Registry, tmp_path: Path) -> None:
    assert cell_of(registry, tmp_path, RUNS).evaluation.tasks == RUNS

    with pytest.raises(SuiteError) as caught:
        cell_of(registry, tmp_path, RUNS + 1)

    (mistake,) = caught.value.mistakes
    assert mistake.endswith(
        "cells[1].evaluation.tasks must be at most 12, the official tasks of split 'test', got 13"
    )


def test_a_limit_that_only_the_data_knows_ends_the_cell_before_training(
    registry: Registry, tmp_path: Path
) -> None:
    cell = cell_of(registry, tmp_path, RUNS + 1, fault="unstated")

    def make(part: str, spec: Spec) -> Any:
        return registry.make("dataset" if part == "test_dataset" else part, spec)

    with pytest.raises(Invalid, match="there are 12 official runs"):
        build(cell, make, Device(dtype=torch.float64))
