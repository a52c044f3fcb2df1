"""The test of equal accuracy pairs what belongs together and refuses everything else."""

import runpy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import metabench
from helpers.results import made_cell, made_result, store
from helpers.shell import ROOT


def equivalence(*arguments: object) -> Result:
    """Runs the benchmark's command."""
    command = runpy.run_path(str(ROOT / "benchmarks" / "equivalence.py"))["command"]
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def results_of(
    name: str, accuracy: float = 0.85, seeds: Sequence[int] = (0, 1, 2), **cell: Any
) -> list[metabench.Result]:
    """Results of an algorithm, one for each seed."""
    return [made_result(made_cell(name, seed, **cell), accuracy) for seed in seeds]


def cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table."""
    return [text.strip() for text in line.strip().strip("|").split("|")]


def test_equal_accuracies_are_shown_to_be_equal_and_others_are_not(tmp_path: Path) -> None:
    pairs = (
        results_of("maml", 0.85)
        + results_of("l2l-maml", 0.85)
        + results_of("anil", 0.85)
        + results_of("l2l-anil", 0.82)
    )
    store(tmp_path, pairs)
    ended = equivalence(tmp_path)
    assert ended.exit_code == 0, ended.output
    head, rule, *rows = ended.output.splitlines()
    assert set(rule) <= set("|-:")
    table = {cells(row)[0]: dict(zip(cells(head), cells(row), strict=True)) for row in rows}
    assert list(table) == ["anil", "maml"]
    assert {name: row["within ± 2"] for name, row in table.items()} == {"anil": "not shown", "maml": "yes"}
    difference = float(table["anil"]["difference, points (90 % interval)"].split(" ± ")[0])
    assert difference == pytest.approx(3, abs=1)
    assert table["maml"]["seeds × tasks"] == "3 × 600"


def test_published_results_are_read_from_the_folders_of_their_machines(tmp_path: Path) -> None:
    for folder, name in (("one", "maml"), ("two", "l2l-maml")):
        store(tmp_path / folder, results_of(name))
    assert equivalence(tmp_path).output == equivalence(tmp_path / "one", tmp_path / "two").output
    assert "| maml" in equivalence(tmp_path).output


def test_sides_over_different_test_tasks_are_refused(tmp_path: Path) -> None:
    theirs = results_of("l2l-maml")
    assert theirs[0].scores is not None
    other = [replace(result, scores=replace(theirs[0].scores, manifest="f" * 64)) for result in theirs]
    store(tmp_path, results_of("maml") + other)
    ended = equivalence(tmp_path)
    assert ended.exit_code == 1
    assert "different test tasks" in ended.output


def test_two_settings_of_one_algorithm_are_refused(tmp_path: Path) -> None:
    store(
        tmp_path,
        results_of("maml") + results_of("maml", settings={"inner_rate": 0.1}) + results_of("l2l-maml"),
    )
    ended = equivalence(tmp_path)
    assert ended.exit_code == 1
    assert "maml has two results for seed 0" in ended.output


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        (results_of("l2l-maml", seeds=(0, 1)), "seeds"),
        (results_of("l2l-maml", steps=200), "budget"),
        (results_of("l2l-maml", network="l2l-omniglot-cnn"), "network"),
        (results_of("l2l-maml", settings={"inner_rate": 0.1}), "settings"),
        (results_of("l2l-anil"), "no result of anil"),
        ([], "metabench run head-to-head"),
    ],
)
def test_what_cannot_be_paired_is_refused_with_the_reason(
    theirs: list[metabench.Result], reason: str, tmp_path: Path
) -> None:
    store(tmp_path, results_of("maml") + theirs)
    ended = equivalence(tmp_path)
    assert ended.exit_code == 1
    assert reason in ended.output
