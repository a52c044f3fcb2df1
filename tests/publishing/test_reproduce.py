"""`metabench reproduce` and the paired timing cell, on cells that really run."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import metabench
from helpers.results import made_cell, made_result
from metabench import Result
from metabench.errors import RequestError
from metabench.plugins import load
from metabench.publishing.reproduce import compare, reproduce
from metabench.records.files import read_result
from metabench.worker.paired import pair

SUITE = """
name = "waves"
version = 1
title = "A few steps of sine waves"

[[cells]]
algorithm = "maml"
network = "mlp"
dataset = "sinusoid"
test = {ways = 1, shots = 5, queries = 5}
budget = {steps = 20, tasks = 4, validate_every = 10}
evaluation = {tasks = 40}
backend = {name = "cpu", threads = 1}
seeds = [0]
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a result that a real run left."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "waves.toml").write_text(SUITE)
    metabench.run(str(folder / "waves.toml"), results=str(folder / "results"), quiet=True)
    (path,) = (folder / "results" / "waves-v1").glob("*.json")
    return path


def test_a_result_is_reproduced_from_nothing_but_its_file(ran: Path, tmp_path: Path) -> None:
    alone = edited(ran, tmp_path, plugins={"algorithm": "metabench 0.0.9"})

    found = reproduce(alone, tmp_path / "again", quiet=True)

    assert found.agrees
    assert found.lines[0] == "algorithm 'maml': made with metabench 0.0.9, here is metabench 0.1.0"
    assert found.lines[1] == "every task scores exactly as before"
    assert found.new.cell.plugins == read_result(ran).cell.plugins  # of the code that ran, in the same order
    assert found.new.environment["suite_digest"] == found.old.environment["suite_digest"]
    assert (tmp_path / "again" / "waves-v1" / ran.name).exists()


def edited(ran: Path, folder: Path, **changed: Any) -> Path:
    """A file with that result, some fields of whose cell are changed."""
    told = json.loads(ran.read_text())
    for name, value in changed.items():
        both = isinstance(value, dict) and isinstance(told["cell"][name], dict)
        told["cell"][name] = {**told["cell"][name], **value} if both else value
    path = folder / "edited.json"
    path.write_text(json.dumps(told))
    return path


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"suite": "../x"}, "its suite '../x' cannot be the name of a folder"),
        ({"suite": 3}, "its suite 3 cannot"),
        ({"suite_version": "1/../../x"}, "its suite_version is '1/../../x'"),
        ({"seed": "../../x"}, "its seed is '../../x'"),
        ({"test": {"shots": "../x"}}, "'shots'"),
        ({"backend": {"settings": {"ranks": "/../x"}}}, "cannot be the name of a file"),
        ({"algorithm": {"settings": {"stepz": 1}}}, "'maml' has no setting 'stepz'"),
        ({"algorithm": {"name": ["maml"]}}, "edited.json"),
        ({"suite": "\x1b[2J"}, "its suite"),
    ],
)
def test_a_cell_that_makes_no_sense_runs_and_writes_nothing(
    ran: Path, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(RequestError, match=re.escape(said)) as caught:
        reproduce(edited(ran, tmp_path, **changed), tmp_path / "deep" / "again", quiet=True)
    assert "\x1b" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["edited.json"]


def test_a_cell_of_a_plugin_that_is_not_here_says_what_to_install(ran: Path, tmp_path: Path) -> None:
    told = json.loads(ran.read_text())
    told["cell"]["algorithm"]["name"] = "elsewhere"
    told["cell"]["plugins"]["algorithm"] = "other-package 1.0"
    foreign = tmp_path / "foreign.json"
    foreign.write_text(json.dumps(told))

    with pytest.raises(RequestError, match=r"made with other-package 1\.0: install it"):
        reproduce(foreign, tmp_path / "again", quiet=True)


def test_a_file_that_is_no_result_is_a_mistake_in_the_request(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")

    with pytest.raises(RequestError, match="no result"):
        reproduce(tmp_path / "x.json", tmp_path / "again")


def test_the_published_file_is_never_replaced(ran: Path) -> None:
    with pytest.raises(RequestError, match="would replace it"):
        reproduce(ran, ran.parent.parent)


def results(accuracies: Sequence[float]) -> list[Result]:
    return [made_result(made_cell(f"m{i}"), a) for i, a in enumerate(accuracies)]


def test_scores_that_differ_little_agree_and_others_do_not() -> None:
    base, near, far = results([0.70, 0.70, 0.60])

    assert compare(base, near)[0] is True
    assert compare(base, far)[0] is False


def test_few_tasks_decide_nothing() -> None:
    few = [made_result(made_cell(f"few{i}", test_tasks=12), 0.7) for i in range(2)]

    assert compare(*few)[0] is None


def test_other_test_tasks_are_no_reproduction() -> None:
    base, near = results([0.7, 0.7])
    assert near.scores is not None
    other = replace(near, scores=replace(near.scores, manifest="0" * 64))

    agrees, lines = compare(base, other)

    assert agrees is False
    assert "the test tasks are others" in lines[0]


def test_a_slower_cell_is_found_by_blocks_in_turns(ran: Path) -> None:
    cell = read_result(ran).cell
    more = replace(cell, budget=replace(cell.budget, tasks=400))

    same = pair(cell, cell, load(), pairs=8, block_seconds=0.03)
    slower = pair(cell, more, load(), pairs=8, block_seconds=0.03)

    assert len(same.base_seconds) == len(same.new_seconds) == 8
    assert 0.5 < same.ratio.ratio < 2
    assert slower.ratio.low > 1
    assert slower.ratio.ratio > same.ratio.ratio


def test_a_timing_pairs_single_processes_that_train(ran: Path) -> None:
    cell = read_result(ran).cell
    still = replace(cell, budget=replace(cell.budget, steps=0))
    ranked = replace(cell, backend=metabench.Spec("cpu-ranks", {"ranks": 2, "threads": 1}))

    with pytest.raises(RequestError, match="trains nothing"):
        pair(cell, still, load())
    with pytest.raises(RequestError, match="different backends"):
        pair(cell, ranked, load())
    with pytest.raises(RequestError, match="several ranks"):
        pair(ranked, ranked, load())
