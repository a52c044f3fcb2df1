"""The clock of training: seconds in blocks of steps."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from metabench.errors import Diverged
from metabench.records.cell import Budget
from metabench.records.progress import TrainEvent
from metabench.records.result import Block, Training

if TYPE_CHECKING:
    from metabench.worker.cell_run import CellRun

LONGEST_BLOCK = 50  # steps
LONGEST_BLOCK_WITH_TIME_LIMIT = 10  # steps: a budget of seconds is checked at the end of a block
PROGRESS_SECONDS = 0.5  # between two progress events
PARTS = ("sampling", "learning", "communication", "updating")
"""The parts of a training step, in order."""
LAPS = len(PARTS) + 1
"""Moments of a step: its begin, and the end of each part."""


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

    The first steps, of the run or after a resume, are blocks of one step each: the warm-up. The parts of a
    step lie between moments that the device notes without waiting.
    """

    def __init__(self, run: CellRun) -> None:
        budget = run.cell.budget
        self.run = run
        self.planned_steps = run.cell.planned_steps
        self.block_steps = block_steps(budget, self.planned_steps)
        self.warmup_end = run.training.steps + run.cell.warmup_steps
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

    def count(self, losses: torch.Tensor) -> None:
        """Count a step whose update is done."""
        self.steps += 1
        self.losses.append(losses)

    def close_block(self, step: int) -> bool:
        """Close the block where it ends after this step; return whether it did."""
        last = step + 1 >= self.planned_steps
        if step >= self.warmup_end and (step + 1) % self.block_steps and not last:
            return False
        block, loss = self._block(self.run.device.clock() - self.block_start)
        with self.run.guard.changing():
            self.run.training = self._with_block(block, loss)
            self.steps, self.losses = 0, []
        self._emit_progress(step, block, loss)
        if not math.isfinite(loss):
            raise Diverged(f"the training loss is {loss} after {step + 1} steps")
        return True

    def interrupted(self) -> Training:
        """Return the training with the steps of the block so far, as this rank alone timed them."""
        if not self.steps:
            return self.run.training
        moments = self.moments[: self.steps * LAPS]
        own = self._own(moments, sum(self.run.device.seconds_between(moments)))
        return self._with_block(*self._slowest([own]))

    def _block(self, seconds: float) -> tuple[Block, float]:
        """The block as the slowest rank timed it, and the mean loss over the tasks of all ranks."""
        own = self._own(self.moments, seconds)
        return self._slowest(self.run.device.gather(own))  # one exchange per block

    def _own(self, moments: Sequence[Any], seconds: float) -> list[float]:
        """This rank's sum of losses, number of losses, seconds, and seconds of each part."""
        losses = torch.cat(self.losses)
        laps = self.run.device.seconds_between(moments)
        parts = [sum(laps[part::LAPS]) for part in range(len(PARTS))]
        return [float(losses.double().sum()), float(losses.numel()), seconds, *parts]

    def _slowest(self, ranks: Sequence[Sequence[float]]) -> tuple[Block, float]:
        slowest = max(ranks, key=lambda values: values[2])
        block = Block(self.steps, slowest[2], **dict(zip(PARTS, slowest[3:], strict=True)))
        return block, sum(values[0] for values in ranks) / sum(values[1] for values in ranks)

    def _with_block(self, block: Block, loss: float) -> Training:
        so_far = self.run.training
        warmup = so_far.steps < self.warmup_end
        step = so_far.steps + block.steps - 1
        return replace(
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
