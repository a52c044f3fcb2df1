"""The training loop: it draws tasks, times steps, validates, and keeps the best state.

Algorithms never time or score themselves. Each rank runs this same loop over its own slice of the tasks;
whatever ends training (seconds, target, patience, divergence) is agreed between the ranks.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metabench.errors import Diverged, Skip
from metabench.records.progress import ValidationEvent
from metabench.records.result import Training, Validation
from metabench.worker.cell_run import CellRun, draw, learn, share, units
from metabench.worker.clock import BlockClock
from metabench.worker.evaluation import score_tasks
from metabench.worker.resume import save_when_due


def train(run: CellRun) -> None:
    """Train within the cell's budget; `run.training` is up to date at every moment, errors included.

    Raises Diverged where the loss is not finite, Skip where there are more ranks than tasks.
    """
    if not run.cell.trains or run.trained:
        return
    total = units(run.cell)
    if run.device.world_size > total:
        raise Skip(f"{run.device.world_size} ranks are more than the {total} tasks of a meta-step")
    clock = BlockClock(run)
    run.with_open_block = clock.interrupted
    run.training_energy.resume()
    ended_by = _take_steps(run, clock)
    run.training_energy.pause()
    joules = run.training_energy.joules()
    with run.guard.changing():
        run.training = replace(
            run.training,
            ended_by=ended_by,
            energy=joules,
            target_energy=joules if ended_by == "target" else {},
            annealed=run.learner.anneals,
        )
        run.trained = True
        if run.best_state is not None:
            run.learner.load_state_dict(run.best_state)
    save_when_due(run)


def _take_steps(run: CellRun, clock: BlockClock) -> str:
    """Take steps until the budget ends; return what ended it, as `Training.ended_by` has it."""
    parameters, first = run.learner.parameters(), run.training.steps
    total = units(run.cell)
    weight = len(share(total, run.device)) / total
    ended_by = _end_of_training(run, first) if first else None  # an interruption may have come before it
    for step in range(first, run.cell.planned_steps):
        if ended_by is not None:
            return ended_by
        _take_step(run, step, clock, parameters, weight)
        if clock.close_block(step):
            ended_by = _end_of_training(run, step + 1)
            if ended_by is None:
                save_when_due(run)
    whole = "steps" if run.cell.planned_steps == run.cell.budget.steps else "images"
    return ended_by or whole


def _take_step(
    run: CellRun, step: int, clock: BlockClock, parameters: Sequence[Tensor], weight: float
) -> None:
    """One training step, with a lap for each of `clock.PARTS`."""
    steps = run.cell.planned_steps
    clock.start()
    batches = draw(run, step)
    clock.lap()
    losses = learn(run.learner, batches, step, steps)
    clock.lap()
    run.device.average_gradients(parameters, weight)
    clock.lap()
    with run.guard.changing():
        run.learner.update(step, steps)
        clock.lap()
        clock.count(losses.detach())


def _end_of_training(run: CellRun, step: int) -> str | None:
    """Validate where it is time to; return why training ends here ("seconds", "target", …), or None."""
    budget = run.cell.budget
    out_of_time = bool(budget.seconds) and run.device.agree(run.training.seconds >= budget.seconds)
    last = step >= run.cell.planned_steps or out_of_time
    if budget.validate_every and (step % budget.validate_every == 0 or last):
        if not any(validation.step == step for validation in run.training.validations):
            run.training_energy.pause()
            _validate(run, step)
            run.training_energy.resume()
        if run.device.agree(run.training.target_step is not None):
            return "target"
        if run.device.agree(_out_of_patience(run)):
            return "patience"
    return "seconds" if out_of_time else None


def _validate(run: CellRun, step: int) -> None:
    """Score the validation tasks, on a clock of their own; keep the state where it is the best so far."""
    started = run.device.clock()
    run.finish()
    scores = np.asarray(score_tasks(run, "validation", run.cell.budget.validation_tasks).per_task)
    mean = float(scores.mean())
    if not math.isfinite(mean):
        raise Diverged(f"the validation score is {mean} after {step} steps")
    best, reached = _is_best(run, mean), _reaches_target(run, mean)
    state = copy.deepcopy(run.learner.state_dict()) if best else run.best_state
    seconds = run.device.clock() - started
    validation = Validation(step, run.training.seconds, mean, _half_width(scores))
    with run.guard.changing():
        run.best_state = state
        run.training = _with_validation(run.training, validation, seconds, best, reached)
    run.emit(ValidationEvent(step, mean, validation.half_width))


def _half_width(scores: NDArray[Any]) -> float:
    """The half-width of the 95 % confidence interval of the mean score."""
    from metabench.stats import half_width  # scipy takes a quarter of a second, which only validations need

    return half_width(float(scores.std(ddof=1)), len(scores))


def _is_best(run: CellRun, mean: float) -> bool:
    """Whether a validation's mean is better than those of all earlier ones."""
    earlier = [validation.mean for validation in run.training.validations]
    if not earlier:
        return True
    return mean > max(earlier) if run.metric.higher_is_better else mean < min(earlier)


def _reaches_target(run: CellRun, mean: float) -> bool:
    target = run.cell.budget.target
    if target is None:
        return False
    return mean >= target if run.metric.higher_is_better else mean <= target


def _out_of_patience(run: CellRun) -> bool:
    """Whether the last validations, as many as the budget's patience, were none the best."""
    patience, training = run.cell.budget.patience, run.training
    later = [v for v in training.validations if training.best_step is None or v.step > training.best_step]
    return 0 < patience <= len(later)


def _with_validation(
    so_far: Training, validation: Validation, seconds: float, best: bool, reached: bool
) -> Training:
    """The training so far, with one more validation that took `seconds`."""
    return replace(
        so_far,
        validations=(*so_far.validations, validation),
        validation_seconds=so_far.validation_seconds + seconds,
        best_step=validation.step if best else so_far.best_step,
        target_step=validation.step if reached else None,
        target_seconds=so_far.seconds if reached else None,
    )
