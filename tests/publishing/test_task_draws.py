"""Test tasks are drawn here in a process of their own, and remembered."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from helpers.shell import ROOT
from metabench.plugins import load
from metabench.publishing import task_draws
from metabench.publishing.task_draws import CACHE_NAME, Drawn, TaskSet, draw_all
from metabench.records import Protocol
from metabench.results.store import read_result

WAVES = TaskSet("sinusoid", "{}", Protocol(1, 5, 5), 20, 2026)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path))
    return tmp_path / CACHE_NAME


def test_published_tasks_are_drawn_here_and_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next((ROOT / "results" / "sine-v2").glob("*/*.json"))
    result = read_result(path)
    assert result.scores is not None
    tasks = TaskSet.of(result.cell)

    first = draw_all({tasks}, load())
    monkeypatch.setattr(task_draws, "_in_process", lambda wanted: [Drawn(None, "drawn again")] * len(wanted))
    second = draw_all({tasks}, load())

    assert first == second == {tasks: Drawn(result.scores.manifest)}
    assert list(json.loads(cache.read_text()).values()) == [result.scores.manifest]


def test_other_settings_protocols_and_seeds_are_other_tasks(cache: Path) -> None:
    more = [
        WAVES,
        TaskSet("sinusoid", "{}", Protocol(1, 6, 5), 20, 2026),
        TaskSet("sinusoid", "{}", Protocol(1, 5, 5), 20, 7),
        TaskSet("blobs", '{"classes": 7, "shape": [4]}', Protocol(5, 1, 2), 20, 2026),
        TaskSet("blobs", '{"classes": 8, "shape": [4]}', Protocol(5, 1, 2), 20, 2026),
    ]

    drawn = draw_all(more, load())

    assert all(answer.digest and not answer.problem for answer in drawn.values())
    assert len({answer.digest for answer in drawn.values()}) == len(more)


def test_what_cannot_be_drawn_here_says_why_or_is_left_open(cache: Path) -> None:
    absent = TaskSet("of-nobody", "{}", Protocol(5, 1, 2), 20, 1)
    unknown = TaskSet("blobs", '{"no such setting": 1}', Protocol(5, 1, 2), 20, 1)
    impossible = TaskSet("blobs", '{"classes": 7, "shape": [4]}', Protocol(5000, 1, 2), 20, 1)

    drawn = draw_all([WAVES, absent, unknown, impossible], load())

    assert drawn[WAVES].digest
    assert drawn[absent] == drawn[unknown] == Drawn(None)
    assert drawn[impossible].digest is None
    assert drawn[impossible].problem


def test_a_process_that_dies_is_a_problem_of_its_tasks(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    (answer,) = draw_all([WAVES], load()).values()

    assert answer == Drawn(None, "the process that draws ended with 1: without a word")
    assert not cache.exists() or json.loads(cache.read_text()) == {}


def test_a_damaged_cache_is_done_without(cache: Path) -> None:
    cache.write_text("{")

    assert draw_all([WAVES], load())[WAVES].digest
    assert json.loads(cache.read_text())
