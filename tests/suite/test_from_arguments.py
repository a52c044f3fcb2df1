"""A run without a file asks for the cells that a suite file would, and every mistake in it is reported."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from metabench.errors import RequestError, SuiteError
from metabench.plugins import Registry
from metabench.records.protocol import Protocol
from metabench.suite import Arguments, read, read_arguments
from metabench.suite.toml_text import suite_text

SUITE = """
name = "mine"
version = 1

[defaults]
test = {ways = 5, shots = 1, queries = 15}
budget = {steps = 7, tasks = 4}
seeds = [0, 1, 2]

[[cells]]
network = "conv4"
dataset = {name = "glyphs", images = 20}

[cells.sweep]
algorithm = [{name = "maml", inner_rate = 0.3}, "protonet", "nearest-neighbour"]
"""

MINE: dict[str, Any] = {
    "algorithms": ["maml:inner_rate=0.3", {"name": "protonet"}, "nearest-neighbour"],
    "networks": ["conv4"],
    "datasets": ["glyphs:images=20"],
    "tests": ["5w1s"],
    "steps": 7,
    "budget": {"tasks": 4},
}


def test_cells_are_those_of_a_suite_file_but_for_its_name(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SUITE)
    cells = read(registry, str(path)).cells
    suite = read_arguments(registry, Arguments(**MINE), [0, 1, 2])
    assert (suite.name, suite.version) == ("runs", 1)
    assert len(cells) == 7
    assert [cell.key(["suite"]) for cell in suite.cells] == [cell.key(["suite"]) for cell in cells]
    path.unlink()
    saved = read_arguments(registry, Arguments(**MINE, save=path), [0, 1, 2])
    assert [cell.digest for cell in saved.cells] == [cell.digest for cell in cells]


def test_a_saved_suite_has_the_same_cells_and_its_file_stays(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    backend = {"name": "cpu", "threads": 1}
    more: dict[str, Any] = {
        "tests": [Protocol(5, 1, 15), "3-5w2s4q"],
        "train": {"ways": 3, "shots": 1, "queries": 2},
    }
    arguments = Arguments(**{**MINE, "algorithms": ["protonet"], **more}, save=path)
    saved = read_arguments(registry, arguments, [4], backend)
    assert saved.name == "mine"
    assert [cell.digest for cell in read(registry, str(path)).cells] == [cell.digest for cell in saved.cells]
    assert {cell.test.short for cell in saved.cells} == {"5w1s", "3-5w2s"}
    assert {cell.train.short for cell in saved.cells if isinstance(cell.train, Protocol)} == {"3w1s"}
    read_arguments(registry, arguments, [4], backend)  # the same text again is no mistake
    with pytest.raises(RequestError, match="another file is there"):
        read_arguments(registry, arguments, [5], backend)


def test_weights_are_named_from_where_the_command_is_typed(registry: Registry, tmp_path: Path) -> None:
    weights = tmp_path / "trained.safetensors"
    weights.write_bytes(b"weights")
    suite = read_arguments(
        registry,
        Arguments(
            **{**MINE, "networks": [f"conv4:weights={weights}"], "algorithms": ["protonet"]},
            save=tmp_path / "sub.toml",
        ),
    )
    assert [path.samefile(weights) for path in suite.weights.values()] == [True]
    assert str(tmp_path) not in (tmp_path / "sub.toml").read_text()


@pytest.mark.parametrize(
    ("changes", "mistakes"),
    [
        ({"algorithms": []}, ["--algorithm is missing", "--network has no effect without --algorithm"]),
        ({"datasets": [], "tests": []}, ["--dataset is missing", "--test is missing"]),
        ({"steps": None}, ["--steps is missing: it trains maml, protonet; 0 scores what is untrained"]),
        ({"budget": {"steps": 3}}, ["--steps and --budget steps=… must not both be given"]),
        ({"budget": {"task": 3}}, ["unknown key 'task' in --budget; did you mean 'tasks'?"]),
        ({"tests": ["5w1s30q"]}, ["--train must have shots + queries", "--test must have shots + queries"]),
        ({"networks": []}, ["--network is missing (algorithm 'maml'", "--network is missing"]),
        ({"train": "4w9x"}, ["--train must be like 5w1s, 5w1s15q"]),
        ({"evaluation": {"metric": "acc"}}, ["--evaluation metric: no metric is called 'acc'"]),
        ({"save": Path("runs.toml")}, ["--save-suite must end in NAME.toml, of letters"]),
        ({"save": Path("mine.txt")}, ["--save-suite must end in NAME.toml, of letters"]),
        (
            {"algorithms": ["maml:inner_rat=0.3"], "datasets": ["glyfs"]},
            ["--algorithm maml:inner_rat=0.3: 'maml' has no setting", "--dataset glyfs: no dataset"],
        ),
    ],
)  # fmt: skip
def test_a_mistake_names_the_option(registry: Registry, changes: dict[str, Any], mistakes: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        read_arguments(registry, Arguments(**{**MINE, **changes}))
    lines = str(caught.value).splitlines()
    assert [line[: len(mistake)] for line, mistake in zip(lines, mistakes, strict=True)] == mistakes


def test_text_of_a_suite_is_read_back_as_the_same_table() -> None:
    document = {
        "name": "quotes",
        "version": 1,
        "defaults": {"budget": {"steps": 1, "seconds": 0.5}, "seeds": [0]},
        "cells": [
            {
                "label": 'a "b" \\ \x7f\n',
                "dataset": {"path with": "ä", "on": True},
                "sweep": {"test.ways": [[1, 2], 3]},
            }
        ],
    }
    assert tomllib.loads(suite_text(document)) == document


def test_a_suite_and_arguments_together_are_refused(registry: Registry) -> None:
    assert not Arguments()
    with pytest.raises(SuiteError):
        read_arguments(registry, Arguments(steps=3))
