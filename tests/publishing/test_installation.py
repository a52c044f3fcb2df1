"""What is installed is asked of a process of its own, and remembered until code changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from helpers.shell import ROOT
from metabench.errors import MetabenchError
from metabench.plugins import load
from metabench.publishing.installation import CACHE_NAME, Installation
from metabench.publishing.task_draws import Drawn, TaskSet
from metabench.records import Protocol, Spec
from metabench.records.files import read_result
from metabench.suite import read

WAVES = TaskSet("sinusoid", "{}", Protocol(1, 5, 5), 20, 2026)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path))
    return tmp_path / CACHE_NAME


def drawn_here(wanted: Iterable[TaskSet]) -> dict[TaskSet, Drawn]:
    with Installation() as installation:
        return installation.draw(wanted)


def test_published_tasks_are_drawn_here_and_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next((ROOT / "results" / "sine-v2").glob("*/*.json"))
    result = read_result(path)
    assert result.scores is not None
    tasks = TaskSet.of(result.cell)

    first = drawn_here({tasks})
    monkeypatch.setattr(sys, "executable", "/bin/false")  # nothing could be asked again
    second = drawn_here({tasks})

    assert first == second == {tasks: Drawn(result.scores.manifest)}


def test_a_suite_and_its_metric_are_described_without_torch(cache: Path) -> None:
    program = """
import sys
from metabench.publishing.installation import Installation
here = sys.argv[1]
with Installation() as installation:
    metric = installation.component("metric", "mse")
    suite = installation.suites([here, "sine-v1", "of-nobody-v1"])
print(metric["higher_is_better"], metric["bounds"], sorted(suite), len(suite[here].cells))
print("torch" in sys.modules)
"""
    cells = read(load(), "sine").cells
    command = [sys.executable, "-c", program, cells[0].suite_folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    facts, torch = done.stdout.splitlines()
    assert facts == f"False [0.0, inf] ['{cells[0].suite_folder}'] {len(cells)}"
    assert torch == "False"


def test_what_one_process_was_told_another_remembers(cache: Path) -> None:
    program = "from metabench.publishing.installation import Installation; print(Installation()._state)"
    states = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip

    assert len(states) == 1


def test_settings_that_a_plugin_has_gained_are_completed(cache: Path) -> None:
    with Installation() as installation:
        given = [("algorithm", Spec("maml", {"steps": 3})), ("algorithm", Spec("of-nobody", {"steps": 3}))]
        maml, unknown = installation.completed(given)

    assert maml.settings["steps"] == 3
    assert "first_order" in maml.settings
    assert unknown == given[1][1]


def test_other_settings_protocols_and_seeds_are_other_tasks(cache: Path) -> None:
    more = [
        WAVES,
        TaskSet("sinusoid", "{}", Protocol(1, 6, 5), 20, 2026),
        TaskSet("sinusoid", "{}", Protocol(1, 5, 5), 20, 7),
        TaskSet("blobs", '{"classes": 7, "shape": [4]}', Protocol(5, 1, 2), 20, 2026),
        TaskSet("blobs", '{"classes": 8, "shape": [4]}', Protocol(5, 1, 2), 20, 2026),
    ]

    drawn = drawn_here(more)

    assert all(answer.digest and not answer.problem for answer in drawn.values())
    assert len({answer.digest for answer in drawn.values()}) == len(more)


def test_what_cannot_be_drawn_here_says_why_or_is_left_open(cache: Path) -> None:
    absent = TaskSet("of-nobody", "{}", Protocol(5, 1, 2), 20, 1)
    unknown = TaskSet("blobs", '{"no such setting": 1}', Protocol(5, 1, 2), 20, 1)
    impossible = TaskSet("blobs", '{"classes": 7, "shape": [4]}', Protocol(5000, 1, 2), 20, 1)

    drawn = drawn_here([WAVES, absent, unknown, impossible])

    assert drawn[WAVES].digest
    assert drawn[absent] == drawn[unknown] == Drawn(None)
    assert drawn[impossible].digest is None
    assert drawn[impossible].problem


def test_a_process_that_dies_is_a_problem_of_its_tasks(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    (answer,) = drawn_here([WAVES]).values()
    with Installation() as installation, pytest.raises(MetabenchError, match="metabench doctor"):
        installation.component("metric", "mse")

    assert answer.digest is None
    assert "ended with 1" in answer.problem
    assert not cache.exists()


def test_a_damaged_cache_is_done_without(cache: Path) -> None:
    cache.write_text("{")

    assert drawn_here([WAVES])[WAVES].digest
    assert json.loads(cache.read_text())
