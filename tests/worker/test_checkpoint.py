"""A cell that was interrupted goes on from its checkpoint, and ends with the scores of one that was not."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.interrupted import Worker, cells, end, wait_until
from helpers.toy_runs import Follower, run_of
from metabench import Budget
from metabench.records.progress import CheckpointEvent, Event, ResumeEvent, TrainEvent
from metabench.records.result import Training
from metabench.runner.worker_files import ProgressReader
from metabench.worker.cell_run import CellRun
from metabench.worker.checkpoint import Checkpoint, CheckpointFile
from metabench.worker.evaluation import evaluate
from metabench.worker.resume import resume, save_interrupted
from metabench.worker.training import train

MADE_BY = {"cell": "c", "code": "d"}
METHODS = ("maml", "protonet", "reptile", "simpleshot")
PHASES = ("setup", "train", "validation", "evaluate")
SCORED = ("per_task", "manifest", "state", "curve")


class StopError(Exception):
    """The interruption of a run in this process."""


class Stopping(Follower):
    """Stops the run in `learn` of one step, in `update` of it, or in a validation."""

    def __init__(self, stop_at: int | None = None, where: str = "learn") -> None:
        super().__init__()
        self.stop_at, self.where = stop_at, where
        self.optimizer = torch.optim.Adam(self.module.parameters(), 0.1)

    def learn(self, batch: Any, step: int, total: int) -> torch.Tensor:
        losses = super().learn(batch, step, total)
        if step == self.stop_at and self.where == "learn":
            raise StopError
        return losses

    def finish(self, batches: Any) -> None:
        super().finish(batches)
        if self.stop_at is not None and self.where == "finish" and len(self.finished) == self.stop_at:
            raise StopError


BUDGET = Budget(steps=60, tasks=3, validate_every=7, validation_tasks=5)


def run_at(
    path: Path, learner: Follower, made_by: Mapping[str, str] = MADE_BY
) -> tuple[CellRun, list[Event]]:
    run, events = run_of(learner, BUDGET), []
    run.emit = events.append
    run.checkpoint = CheckpointFile(path, made_by, 0.0)
    resume(run)
    return run, events


def whole(path: Path) -> tuple[CellRun, tuple[float, ...]]:
    run, _ = run_at(path, Stopping())
    train(run)
    return run, evaluate(run).per_task


@pytest.mark.parametrize(
    ("stop_at", "where", "saved"),
    [(1, "learn", 1), (23, "learn", 23), (59, "learn", 59), (3, "finish", 20)],  # validated after 21
)
def test_interrupted_run_ends_as_one_that_was_not(
    stop_at: int, where: str, saved: int, tmp_path: Path
) -> None:
    expected, scores = whole(tmp_path / "whole")
    path = tmp_path / "cut"
    first, _ = run_at(path, Stopping(stop_at, where))
    with pytest.raises(StopError):
        train(first)

    second, events = run_at(path, Stopping())
    train(second)

    assert evaluate(second).per_task == scores
    assert second.training.resumed == (saved,)
    assert events[0] == ResumeEvent(saved)
    validations = [(v.step, v.mean, v.half_width) for v in second.training.validations]
    assert validations == [(v.step, v.mean, v.half_width) for v in expected.training.validations]
    assert second.training.best_step == expected.training.best_step
    assert second.training.losses[-1] == expected.training.losses[-1]
    assert second.training.steps == expected.training.steps == 60


def test_clock_goes_on_and_blocks_after_a_resume_are_warm_up(tmp_path: Path) -> None:
    first, _ = run_at(tmp_path / "cut", Stopping(30))
    with pytest.raises(StopError):
        train(first)
    second, _ = run_at(tmp_path / "cut", Stopping())
    train(second)

    before, after = first.training, second.training
    assert after.blocks[: len(before.blocks)] == before.blocks
    assert [block.steps for block in after.warmup] == [1] * 2 * second.cell.warmup_steps
    assert sum(b.steps for b in (*after.warmup, *after.blocks)) == 60
    assert after.seconds == pytest.approx(sum(b.seconds for b in (*after.warmup, *after.blocks)))
    assert after.validation_seconds > before.validation_seconds


def test_interrupt_keeps_the_steps_of_the_block_that_it_cuts_short(tmp_path: Path) -> None:
    budget = Budget(steps=4000, tasks=3)
    first = run_of(Stopping(1234), budget)
    first.checkpoint = CheckpointFile(tmp_path / "cut", MADE_BY, 1e9)
    with pytest.raises(StopError):
        train(first)
    save_interrupted(first)

    second = run_of(Stopping(), budget)
    second.checkpoint = CheckpointFile(tmp_path / "cut", MADE_BY, 1e9)
    resume(second)

    assert first.training.steps < 1234
    assert second.training.resumed == (1234,)
    assert second.training.steps == 1234
    assert sum(b.steps for b in (*second.training.warmup, *second.training.blocks)) == 1234
    assert second.training.losses[-1][0] == 1234


def test_half_an_update_is_never_saved(tmp_path: Path) -> None:
    run, _ = run_at(tmp_path / "cut", Stopping())
    run.training = Training(steps=3)
    with run.guard.changing():
        thread = threading.Thread(target=save_interrupted, args=(run,))
        thread.start()
        thread.join()
    assert not (tmp_path / "cut").exists()


@pytest.mark.parametrize(
    ("made_by", "reason"),
    [
        ({"cell": "c", "code": "e"}, "its checkpoint was made by other code d (now e)"),
        ({"cell": "x", "code": "e"}, "its checkpoint was made by other cell c (now x), code d (now e)"),
    ],
)
def test_checkpoint_of_another_cell_or_code_is_not_gone_on_from(
    made_by: dict[str, str], reason: str, tmp_path: Path
) -> None:
    first, _ = run_at(tmp_path / "cut", Stopping(30))
    with pytest.raises(StopError):
        train(first)
    second, events = run_at(tmp_path / "cut", Stopping(), made_by)
    assert events == [ResumeEvent(0, reason)]
    assert second.training == Training()


@pytest.mark.parametrize("content", [b"", b"\x00" * 20, b"pickle"])
def test_damaged_checkpoint_is_not_gone_on_from(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(content)
    run, events = run_at(tmp_path / "cut", Stopping())
    (event,) = events
    assert isinstance(event, ResumeEvent)
    assert event.reason.startswith("its checkpoint cannot be read")
    assert run.training.resumed == ()


def test_half_a_checkpoint_is_removed(tmp_path: Path) -> None:
    part = tmp_path / ".cut.123.part"
    part.write_bytes(b"half")
    run_at(tmp_path / "cut", Stopping())
    assert not part.exists()


def test_cell_goes_on_where_no_checkpoint_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "full").write_text("no folder: nothing can be written in it")
    run, events = run_at(tmp_path / "full" / "cut", Stopping())

    train(run)

    (notice,) = [event for event in events if isinstance(event, CheckpointEvent)]
    assert notice.step == 1
    assert "cannot be written" in notice.reason
    assert run.training.steps == 60
    assert evaluate(run).per_task == whole(tmp_path / "whole")[1]


def test_checkpoint_comes_back_to_the_bit() -> None:
    state = {"w": torch.randn(3), "n": torch.tensor(7)}
    training = {"optimizer": {"state": {0: {"step": torch.tensor(2.0)}}, "betas": (0.9, 0.999)}}
    given = Checkpoint(
        Training(steps=3, losses=((3, 0.1),), resumed=(1, 2)), state, {"w": torch.zeros(3)}, training, False,
        {"gpu": 1.5}, {"gpu": 0.5}, {"network": {"all": "loop"}},
    )  # fmt: skip
    back, made_by = Checkpoint.from_bytes(given.to_bytes(MADE_BY))
    assert made_by == MADE_BY
    tensors = ("state", "best_state", "training_state")
    assert replace(back, **dict.fromkeys(tensors)) == replace(given, **dict.fromkeys(tensors))  # type: ignore[arg-type]
    assert all(torch.equal(back.state[name], tensor) for name, tensor in state.items())
    assert back.best_state is not None
    assert torch.equal(back.best_state["w"], torch.zeros(3))
    assert back.training_state["optimizer"]["betas"] == (0.9, 0.999)
    assert torch.equal(back.training_state["optimizer"]["state"][0]["step"], torch.tensor(2.0))


def test_next_checkpoint_waits_for_a_hundred_times_what_the_last_one_took(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "cut", MADE_BY, 0.001)
    file.write(Checkpoint(Training(), {}))
    file.cost_seconds = 10.0
    assert not file.due()
    file.cost_seconds = 0.0
    assert CheckpointFile(tmp_path / "cut", MADE_BY, 0.0).due()


@pytest.mark.parametrize(
    ("method", "ranks"), [("maml", 1), pytest.param("simpleshot", 2, marks=pytest.mark.slow)]
)
def test_killed_worker_goes_on(method: str, ranks: int, tmp_path: Path) -> None:
    cell = cells(tmp_path, method, ranks=ranks, steps=30)[method]
    expected = Worker(cell, tmp_path / "whole").run()
    worker = Worker(cell, tmp_path / "cut")
    process = worker.start()
    wait_until(worker.checkpoint.exists)
    end(process, signal.SIGKILL)

    result = worker.run()

    assert result.scores is not None and expected.scores is not None  # noqa: PT018 - for the types
    assert result.scores.per_task == expected.scores.per_task
    assert result.state == expected.state
    assert result.training is not None
    assert len(result.training.resumed) == 1


@pytest.mark.parametrize("ranks", [1, 2])
def test_worker_that_is_asked_to_end_leaves_a_checkpoint(ranks: int, tmp_path: Path) -> None:
    cell = cells(tmp_path, "protonet", ranks=ranks, steps=5000, every=0)["protonet"]
    worker = Worker(cell, tmp_path / "cut", checkpoint_seconds=1e9)
    process = worker.start()
    wait_until(lambda: len(trained_steps(worker)) > 1)
    end(process, signal.SIGTERM)

    assert worker.checkpoint.exists(), worker.job.log.read_text()
    checkpoint, _ = Checkpoint.from_bytes(worker.checkpoint.read_bytes())
    assert checkpoint.training.steps >= trained_steps(worker)[1] > 1


def trained_steps(worker: Worker) -> list[int]:
    """The steps that the worker has named so far."""
    return [event.step for event in ProgressReader(worker.job).read() if isinstance(event, TrainEvent)]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_worker_killed_at_random_moments_ends_with_the_same_scores(
    method: str, ranks: int, tmp_path: Path
) -> None:
    chance = random.Random(f"{method} {ranks}")
    cell = cells(tmp_path, method, ranks=ranks, steps=200, tasks=200)[method]
    expected = Worker(cell, tmp_path / "whole").run()
    worker = Worker(cell, tmp_path / "cut")
    phases = [phase for phase in PHASES for _ in range(20 // len(PHASES))]
    cuts = [phase for phase in phases if worker.cut(phase, chance.uniform(0.0, 0.5))]

    result = worker.run()

    assert set(cuts) == set(PHASES), cuts
    assert result.scores is not None and expected.scores is not None  # noqa: PT018 - for the types
    for name in SCORED:
        assert getattr(result.scores, name) == getattr(expected.scores, name), name
    assert result.state == expected.state
    assert result.training is not None
    assert len(set(result.training.resumed)) >= 3
    print(method, ranks, len(cuts), "cuts, resumed after", result.training.resumed)
