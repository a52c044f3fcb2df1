"""`metabench watch`: what running cells do, read from the files of their jobs."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from metabench.cli import metabench
from metabench.errors import RequestError
from metabench.records.job import JobFolder
from metabench.records.progress import EvaluateEvent, SetupEvent, TrainEvent, ValidationEvent


def watch(*arguments: str) -> str:
    outcome = CliRunner().invoke(metabench, ["watch", *arguments], standalone_mode=False)
    if outcome.exception is not None:
        raise outcome.exception
    return outcome.output


def test_each_running_cell_is_a_line_with_what_it_does(tmp_path: Path) -> None:
    for name, events in {
        "asked": [],
        "training": [SetupEvent(), TrainEvent(50, 100, 1.25, 9.0, 7.0), ValidationEvent(50, 0.75, 0.1)],
        "tested": [TrainEvent(100, 100, 1.0, 9.0, 0.0), EvaluateEvent(3, 20)],
    }.items():
        job = JobFolder(tmp_path / "quick-v1" / "jobs" / name)
        job.path.mkdir(parents=True)
        job.job.write_text("{}")
        for event in events:
            job.append_event(event)
    with (tmp_path / "quick-v1/jobs/training/progress.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # a line that is being written
    lines = {line.split()[0]: line for line in watch(str(tmp_path)).splitlines()[2:]}
    assert "waits for its worker" in lines["asked"]
    assert "step 50/100, loss 1.25, 7 s left, validation 0.75 (step 50)" in lines["training"]
    assert "evaluates, 3 of 20 tasks" in lines["tested"]


def test_it_ends_when_no_cell_runs(tmp_path: Path) -> None:
    assert watch(str(tmp_path), "--every", "1000") == "no cell runs\n"
    with pytest.raises(RequestError, match="must be a folder of results"):
        watch(str(tmp_path / "absent"))
