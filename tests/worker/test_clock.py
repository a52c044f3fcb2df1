"""The clocks of a cell: blocks of steps with their parts, and joules without those of validation."""

from collections.abc import Sequence

import pytest
import torch

from helpers.toy_runs import Follower, Shifts, run_of, toy_cell
from metabench import Budget, Episodes, Protocol
from metabench.device import Device
from metabench.records import Split
from metabench.worker.cell_run import CellRun
from metabench.worker.clock import block_steps
from metabench.worker.energy import EnergyClock
from metabench.worker.training import train
from metabench_plugins.metrics.mse import MeanSquaredError


class Draining(Shifts):
    """Every meta-train draw costs a joule, every other one a hundred."""

    def __init__(self, device: "Metered") -> None:
        self.device = device

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        self.device.joules += 1.0 if split == "train" else 100.0
        return super().episodes(split, protocol, indices, seed)


class Metered(Device):
    joules = 0.0

    def energy(self) -> dict[str, float]:
        return {"meter": self.joules}


class Counted(Device):
    """A device whose clock goes on by one at each moment that is noted."""

    count = 0.0

    def moment(self) -> float:
        self.count += 1
        return self.count


def test_blocks_cover_every_step_once_and_warm_up_stands_apart() -> None:
    run = run_of(Follower(), Budget(steps=200, tasks=4))
    train(run)
    done = run.training
    assert [b.steps for b in done.warmup] == [1] * 5
    assert sum(b.steps for b in (*done.warmup, *done.blocks)) == done.steps == 200
    assert done.seconds == pytest.approx(sum(b.seconds for b in (*done.warmup, *done.blocks)))
    assert all(b.sampling + b.learning + b.communication + b.updating <= b.seconds for b in done.blocks)
    assert done.tasks == 800


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        (Budget(steps=2000, validate_every=200), 50),
        (Budget(steps=2000, validate_every=64), 32),
        (Budget(steps=100_000), 50),
        (Budget(steps=100_000, seconds=60), 10),
        (Budget(steps=3), 1),
    ],
)
def test_block_divides_the_validation_interval(budget: Budget, steps: int) -> None:
    assert block_steps(budget, budget.steps) == steps


def test_energy_of_training_leaves_validation_out() -> None:
    device = Metered(dtype=torch.float64)
    budget = Budget(steps=6, tasks=2, validate_every=2, validation_tasks=4, target=0.0)
    run = CellRun(toy_cell(budget), Follower(), Draining(device), MeanSquaredError(), device)
    train(run)
    assert device.joules == 306.0
    assert run.training.energy == {"meter": 6.0}
    assert run.training.target_energy == {}  # the target was missed


def test_energy_to_the_target_is_what_training_took_until_then() -> None:
    device = Metered(dtype=torch.float64)
    budget = Budget(steps=6, tasks=2, validate_every=2, validation_tasks=4, target=1e9)
    run = CellRun(toy_cell(budget), Follower(), Draining(device), MeanSquaredError(), device)
    train(run)
    assert run.training.target_step == 2
    assert run.training.target_energy == {"meter": 2.0}


def test_parts_of_a_step_are_timed_by_the_device() -> None:
    device = Counted(dtype=torch.float64)
    run = CellRun(toy_cell(Budget(steps=40, tasks=2)), Follower(), Shifts(), MeanSquaredError(), device)
    train(run)
    for block in (*run.training.warmup, *run.training.blocks):
        parts = (block.sampling, block.learning, block.communication, block.updating)
        assert parts == (block.steps,) * 4


def test_energy_that_is_paused_twice_counts_once() -> None:
    device = Metered()
    energy = EnergyClock(device)
    energy.resume()
    device.joules = 5.0
    energy.pause()
    device.joules = 7.0
    energy.pause()

    assert energy.joules() == {"meter": 5.0}
