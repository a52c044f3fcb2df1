"""What a worker leaves, read without trust: every file that breaks a rule is one failed result."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.results import made_cell, made_result
from metabench.records import (
    EndEvent,
    EvaluateEvent,
    Job,
    JobFolder,
    Outcome,
    Result,
    ResumeEvent,
    SetupEvent,
    StartEvent,
    Status,
    TrainEvent,
    ValidationEvent,
)
from metabench.records.progress import EVENTS as KINDS
from metabench.records.progress import CheckpointEvent
from metabench.runner.outcome import result_of_job
from metabench.runner.worker_files import (
    EVENTS_OF_WORKERS,
    ProgressReader,
    WorkerFileError,
    read_worker_failures,
)

CELL = made_cell(test_tasks=12)
TRAIN = TrainEvent(10, 400, loss=1.5, tasks_per_second=90.0, seconds_left=7.5)
EVENTS = [
    SetupEvent(), ResumeEvent(7, "its checkpoint is old"), TRAIN, ValidationEvent(50, 0.4, 0.02),
    CheckpointEvent(60, "the disk is full"), EvaluateEvent(32, tasks=600),
]  # fmt: skip

Edit = Callable[[dict[str, Any]], object]


def put(*path: str, value: Any) -> Edit:
    """An edit that writes this value into a document."""

    def edit(document: dict[str, Any]) -> None:
        for name in path[:-1]:
            document = document[name]
        document[path[-1]] = value

    return edit


def outcome(folder: Path, ranks: int = 1) -> Outcome:
    return Outcome(Job(CELL.id, folder, (), {}, None, {"ranks": ranks}), 0, False, 1.0)


def result_of(folder: Path, ranks: int = 1) -> Result:
    return result_of_job(outcome(folder, ranks), CELL, None, provenance={"machine": "here"})


def honest() -> dict[str, Any]:
    return made_result(CELL).to_json()


def test_an_honest_result_is_taken_as_it_is(tmp_path: Path) -> None:
    JobFolder(tmp_path).write_result(made_result(CELL))

    result = result_of(tmp_path)

    assert result.status == "ok"
    assert result.scores == made_result(CELL).scores


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (put("status", value="great"), "'great' is not one of"),
        (put("status", value=["ok"]), "is not one of"),
        (put("scores", value=None), "an ok result must have scores"),
        (put("scores", "per_task", value=[]), "must have 12 scores, one a task, got 0"),
        (put("scores", "per_task", value=["a"] * 12), "$.scores: "),
        (put("scores", "per_task", value=[None] * 12), "must be finite"),
        (put("scores", "metric", value="mine"), "must have scores of 'accuracy', got 'mine'"),
        (put("cell", "seed", value=77), "must be of the job's own cell"),
        (put("digest", value="0" * 64), "must be of the job's own cell"),
        (put("environment", value=["x"]), "is not of type 'object'"),
        (put("notes", value=[1, 2]), "is not of type 'string'"),
        (put("log_tail", value=[{"a": 1}]), "is not of type 'string'"),
        (put("path", value={"a": 1}), "is not of type 'string'"),
        (put("reason", value="\ud800 bad"), "half of a surrogate pair"),
        (put("parameters", value=10**400), "an integer of 401 digits"),
        (put("memory", value={"host": 10**400}), "an integer of 401 digits"),
        (put("schema", value=99), "schema"),
        (lambda document: document.pop("training"), "'training' is a required property"),
        (dict.clear, "is a required property"),
    ],
)
def test_a_result_that_breaks_a_rule_is_one_failed_result(tmp_path: Path, edit: Edit, reason: str) -> None:
    document = honest()
    edit(document)
    JobFolder(tmp_path).result.write_text(json.dumps(document))
    JobFolder(tmp_path).log.write_text("the last line")

    result = result_of(tmp_path)

    assert result.status == "failed"
    assert result.reason.startswith("what its worker left cannot be read: result.json: ")
    assert reason in result.reason
    assert result.scores is None
    assert result.environment == {"machine": "here"}
    assert result.log_tail == ("the last line",)
    json.dumps(result.to_json()).encode()  # it can be stored


def deep(path: Path) -> None:
    path.write_text("[" * 1_000_000 + "]" * 1_000_000)


def twice(path: Path) -> None:
    path.write_text(json.dumps(honest()).replace('"mean":', '"mean": 0.999, "mean":', 1))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "must be a regular file, is a FIFO"),
        (lambda path: path.symlink_to("/dev/zero"), "must be a regular file, is a link"),
        (lambda path: path.symlink_to("nowhere"), "must be a regular file, is a link"),
        (Path.mkdir, "must be a regular file, is a folder"),
        (deep, "nested deeper than"),
        (twice, "the key 'mean' is there twice"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "no UTF-8"),
        (lambda path: path.write_text(json.dumps(honest())[:100]), "truncated, or no JSON"),
        (lambda path: path.write_text("7"), "no JSON object"),
    ],
    ids=["fifo", "device", "link", "folder", "deep", "twice", "bytes", "truncated", "number"],
)
@pytest.mark.parametrize("name", ["result.json", "failed-0.json"])
def test_a_file_that_is_no_document_is_one_failed_result(
    tmp_path: Path, name: str, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path / name)

    result = result_of(tmp_path)

    assert result.status == "failed"
    assert result.reason.startswith(f"what its worker left cannot be read: {name}: {reason}")


def test_a_failure_that_says_ok_is_refused(tmp_path: Path) -> None:
    JobFolder(tmp_path).write_failure(0, made_result(CELL))

    with pytest.raises(WorkerFileError, match=r"failed-0.json: a rank that failed cannot be ok"):
        read_worker_failures(JobFolder(tmp_path), CELL, 1)


def test_failures_are_in_the_order_in_which_ranks_failed(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    for rank in (2, 0):
        folder.write_failure(rank, Result(CELL, Status.FAILED, f"rank {rank}"))

    failures = read_worker_failures(folder, CELL, 3)

    assert [(rank, result.reason) for rank, result in failures.items()] == [(2, "rank 2"), (0, "rank 0")]


def test_texts_of_a_worker_are_stored_without_control_characters_and_bounded(tmp_path: Path) -> None:
    failed = Result(CELL, Status.FAILED, "\x1b[2J\x1b]0;owned\x07" + "x" * 10_000, ("\x1b[31mred",) * 50)
    JobFolder(tmp_path).write_failure(0, replace(failed, environment={"machine": "m"}))

    result = result_of(tmp_path)

    assert result.reason.startswith(" [2J ]0;owned xxx")
    assert len(result.reason) < 2_100
    assert result.log_tail == (" [31mred",) * 20


def test_a_log_without_end_is_read_by_its_tail(tmp_path: Path) -> None:
    with JobFolder(tmp_path).log.open("wb") as log:
        log.truncate(2**40)  # a hole takes no place on the disk
        log.seek(0, os.SEEK_END)
        log.write(b"\nthe last line\n")

    assert result_of(tmp_path).log_tail[-1] == "the last line"


def test_events_are_read_on_from_where_reading_ended(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    reader = ProgressReader(folder)
    assert reader.read() == []
    for event in EVENTS[:3]:
        folder.append_event(event)

    assert reader.read() == EVENTS[:3]
    for event in EVENTS[3:]:
        folder.append_event(event)
    assert reader.read() == EVENTS[3:]


def test_every_kind_of_event_is_one_of_the_runner_s_or_of_a_worker_s() -> None:
    assert [type(event) for event in EVENTS] == list(EVENTS_OF_WORKERS)
    assert {StartEvent, EndEvent, *EVENTS_OF_WORKERS} == set(KINDS.values())


@pytest.mark.parametrize(
    "line",
    [
        "nonsense", "[1]", '{"step": 1}', '{"kind": "train"}', '{"kind": "new"}', '{"kind": ["a"]}',
        '{"kind": "train", "step": "x", "steps": {}, "loss": "\x1b[2J"}',
        json.dumps(TRAIN.to_json() | {"step": "x"}),
        json.dumps(TRAIN.to_json() | {"step": True}),
        json.dumps({"kind": "resume", "step": 7, "reason": "\x1b[2J"}),
        json.dumps({"kind": "resume", "step": 7, "reason": ["why"]}),
        json.dumps(TRAIN.to_json() | {"step": 10**400}),
        json.dumps(TRAIN.to_json() | {"loss": 10**400}),
        json.dumps({"kind": "start", "number": 1, "of": 2}),
        json.dumps({"kind": "end", "status": "ok", "reason": "", "seconds": 1}),
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 10_000 + "1" + "}" * 10_000,
        "x" * 3 * 2**20,
    ],
)  # fmt: skip
def test_lines_that_hold_no_event_of_a_worker_are_left_out(tmp_path: Path, line: str) -> None:
    folder = JobFolder(tmp_path)
    folder.progress.write_text(f'{line}\n{{"kind": "setup"}}\n{{"kind": "set')
    reader = ProgressReader(folder)

    assert [event for _ in range(5) for event in reader.read()] == [SetupEvent()]


def test_a_loss_that_diverged_is_an_event(tmp_path: Path) -> None:
    JobFolder(tmp_path).append_event(replace(TRAIN, loss=float("inf")))

    assert ProgressReader(JobFolder(tmp_path)).read() == [replace(TRAIN, loss=float("inf"))]


def test_progress_that_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(JobFolder(tmp_path).progress)

    assert ProgressReader(JobFolder(tmp_path)).read() == []
