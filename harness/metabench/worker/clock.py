"""The clocks of a cell: seconds of training in blocks of steps, and joules by meter."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from metabench.device.device import Device
from metabench.device.exchange import sum_over_ranks
from metabench.errors import Diverged
from metabench.records.cell import Budget
from metabench.records.progress import TrainEvent
from metabench.records.result import Block
from metabench.worker.cell_run import CellRun

LONGEST_BLOCK = 50  # steps
LONGEST_BLOCK_WITH_TIME_LIMIT = 10  # steps: a budget of seconds is checked at the end of a block
WARMUP_STEPS = 5
PROGRESS_SECONDS = 0.5  # between two progress events
PARTS = ("sampling", "learning", "communication", "updating")
"""The parts of a training step, in order."""


def block_steps(budget: Budget, steps: int) -> int:
    """Steps of a block: about 40 blocks a run, a divisor of the validation interval, never very long.

    steps: of the whole training.
    """
    limit = LONGEST_BLOCK_WITH_TIME_LIMIT if budget.seconds else LONGEST_BLOCK
    longest = max(1, min(steps // 40, limit))
    if not budget.validate_every:
        return longest
    return max(n for n in range(1, longest + 1) if budget.validate_every % n == 0)


class BlockClock:
    """Times steps in blocks on the training clock, which stops between blocks.

    The first steps are blocks of one step each: the warm-up. The parts of a step lie between moments that
    the device notes without waiting.
    """

    def __init__(self, run: CellRun) -> None:
        budget = run.cell.budget
        self.run = run
        self.planned_steps = run.cell.planned_steps
        self.block_steps = block_steps(budget, self.planned_steps)
        self.warmup_steps = min(WARMUP_STEPS, max(1, self.planned_steps // 20))
        self.losses: list[torch.Tensor] = []
        self.moments: list[Any] = []  # when each step began, and when each of its parts ended
        self.steps = 0  # of the block so far
        self.block_start = 0.0
        self.last_progress = 0.0

    def start(self) -> None:
        """Begin a step."""
        if self.steps == 0:
            self.block_start = self.run.device.clock()
            self.moments = []
        self.lap()  # the time before it, since the last step, belongs to no part

    def lap(self) -> None:
        """End a part of the step."""
        self.moments.append(self.run.device.moment())

    def step_done(self, step: int, losses: torch.Tensor) -> bool:
        """Count the step, and close the block where it ends; return whether it did."""
        self.steps += 1
        self.losses.append(losses)
        last = step + 1 >= self.planned_steps
        if step >= self.warmup_steps and (step + 1) % self.block_steps and not last:
            return False
        self._close_block(step, self.run.device.clock() - self.block_start)
        return True

    def _close_block(self, step: int, seconds: float) -> None:
        block, loss = self._block(seconds)
        self._record(step, block, loss)
        self._emit_progress(step, block, loss)
        self.steps = 0
        self.losses = []
        if not math.isfinite(loss):
            raise Diverged(f"the training loss is {loss} after {step + 1} steps")

    def _block(self, seconds: float) -> tuple[Block, float]:
        """The block as the slowest rank timed it, and the mean loss over the tasks of all ranks."""
        device = self.run.device
        losses = torch.cat(self.losses)
        laps = device.seconds_between(self.moments)
        parts = [sum(laps[part :: len(PARTS) + 1]) for part in range(len(PARTS))]
        # one exchange per block
        ranks = device.gather([float(losses.double().sum()), float(losses.numel()), seconds, *parts])
        slowest = max(ranks, key=lambda values: values[2])
        block = Block(self.steps, slowest[2], **dict(zip(PARTS, slowest[3:], strict=True)))
        return block, sum(values[0] for values in ranks) / sum(values[1] for values in ranks)

    def _record(self, step: int, block: Block, loss: float) -> None:
        so_far = self.run.training
        warmup = step < self.warmup_steps
        self.run.training = replace(
            so_far,
            steps=step + 1,
            tasks=(step + 1) * self.run.cell.budget.tasks,
            seconds=so_far.seconds + block.seconds,
            warmup=(*so_far.warmup, block) if warmup else so_far.warmup,
            blocks=so_far.blocks if warmup else (*so_far.blocks, block),
            losses=(*so_far.losses, (step + 1, loss)),
        )

    def _emit_progress(self, step: int, block: Block, loss: float) -> None:
        now = time.monotonic()
        if now - self.last_progress < PROGRESS_SECONDS:
            return
        self.last_progress = now
        budget = self.run.cell.budget
        step_seconds = block.seconds / block.steps
        seconds_left = (self.planned_steps - step - 1) * step_seconds
        if budget.seconds:
            seconds_left = min(seconds_left, budget.seconds - self.run.training.seconds)
        rate = budget.tasks / step_seconds
        self.run.emit(TrainEvent(step + 1, self.planned_steps, loss, rate, max(0.0, seconds_left)))


class EnergyClock:
    """This rank's energy by meter between `resume` and `pause`, as often as these are called.

    A meter that could not be read at one of those moments is left out for good.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._at_resume: Mapping[str, float] = {}
        self._used: dict[str, float] | None = None

    def resume(self) -> None:
        """Start to count."""
        self._at_resume = self._device.energy()

    def pause(self) -> None:
        """Stop to count."""
        now = self._device.energy()
        joules = {meter: now[meter] - start for meter, start in self._at_resume.items() if meter in now}
        if self._used is None:
            self._used = joules
        else:
            self._used = {
                name: self._used[name] + more for name, more in joules.items() if name in self._used
            }

    def joules(self) -> dict[str, float]:
        """The joules so far by meter, summed over ranks."""
        return sum_over_ranks(self._device, self._used or {})
