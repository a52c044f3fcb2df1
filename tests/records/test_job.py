"""A job's folder: what one process writes there, another reads back; half a file is not fatal."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.results import made_cell
from metabench.errors import StoreError
from metabench.records import (
    EndEvent,
    EvaluateEvent,
    Event,
    JobFile,
    JobFolder,
    Result,
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
    TrainEvent(10, 400, loss=1.5, tasks_per_second=90.0, seconds_left=7.5),
    ValidationEvent(50, mean=0.4, half_width=0.02),
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


def test_events_are_read_on_from_where_reading_ended(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    assert list(folder.read_events()) == []
    for event in SAMPLES[:3]:
        folder.append_event(event)
    events = list(folder.read_events())
    folder.append_event(SAMPLES[3])

    assert [event for event, _ in events] == SAMPLES[:3]
    assert [event for event, _ in folder.read_events(events[-1][1])] == SAMPLES[3:4]


def test_lines_that_hold_no_event_are_left_out(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.progress.write_text(
        'nonsense\n[1]\n{"step": 1}\n{"kind": "train"}\n{"kind": "new"}\n{"kind": "setup"}\n{"kind": "set'
    )

    assert [event for event, _ in folder.read_events()] == [SetupEvent()]


def test_failures_are_in_the_order_in_which_ranks_failed(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    for rank in (2, 0):
        folder.write_failure(rank, Result(made_cell(), Status.FAILED, f"rank {rank}"))

    assert [(rank, result.reason) for rank, result in folder.read_failures().items()] == [
        (2, "rank 2"), (0, "rank 0"),
    ]  # fmt: skip


def test_a_damaged_result_is_named_and_an_absent_one_is_none(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    assert folder.read_result() is None
    folder.result.write_text('{"cell": ')

    with pytest.raises(StoreError, match=r"result.json: truncated"):
        folder.read_result()
