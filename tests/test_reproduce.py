"""`metabench reproduce` and the paired timing cell, on cells that really run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import metabench
from made_results import made_cell, made_result
from metabench import Result
from metabench.errors import RequestError
from metabench.pairing import pair
from metabench.plugins import load
from metabench.reproduction import compare, reproduce
from metabench.store import read_result

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
    alone = tmp_path / "anything.json"
    alone.write_bytes(ran.read_bytes())

    found = reproduce(alone, tmp_path / "again", quiet=True)

    assert found.agrees
    assert found.lines[0] == "every task scores exactly as before"
    assert (tmp_path / "again" / "waves-v1" / ran.name).exists()


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
