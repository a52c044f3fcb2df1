"""A job's folder: what one process writes there, another reads back; half a file is not fatal."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.results import made_cell
from metabench.records import (
    CheckpointEvent,
    EndEvent,
    EvaluateEvent,
    Event,
    JobFile,
    JobFolder,
    ResumeEvent,
    SetupEvent,
    StartEvent,
    Status,
    TrainEvent,
    ValidationEvent,
    event_from_json,
)
from metabench.records.progress import EVENTS

SAMPLES: list[Event] = [
    StartEvent(1, 2, remote=True),
    SetupEvent(),
    ResumeEvent(7),
    TrainEvent(10, 400, loss=1.5, tasks_per_second=90.0, seconds_left=7.5),
    ValidationEvent(50, mean=0.4, half_width=0.02),
    CheckpointEvent(60, "the disk is full"),
    EvaluateEvent(32, tasks=600),
    EndEvent(Status.OK, "", 80.0, mean=0.5, metric="accuracy"),
]


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.kind)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    assert event_from_json(event.to_json()) == event


def test_every_kind_of_event_has_a_sample() -> None:
    assert [type(event) for event in SAMPLES] == list(EVENTS.values())


def test_a_job_file_comes_back_as_it_was(tmp_path: Path) -> None:
    job = JobFile(made_cell(), {"algorithm": "a.b:C"}, ("python", "-m", "x"), {"cores": 2}, "metabench run x")

    JobFolder(tmp_path).write_job(job)

    assert JobFolder(tmp_path).read_job() == job
