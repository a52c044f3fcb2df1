"""Checks of one result's training: every figure that follows from the blocks, validations and budget.

The loop of `metabench.worker` gives them; here they are derived again from what is stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate

import numpy as np

from metabench.publishing.findings import Faults
from metabench.publishing.score_checks import MetricFacts
from metabench.records.cell import Cell, Status
from metabench.records.metric_scores import SCORE_ROUNDING
from metabench.records.protocol import VariedProtocol
from metabench.records.result import Block, Result, Training, Validation

SLACK = 1.02
"""Clocks that are read one after the other may disagree by this factor, and by SLACK_SECONDS."""
SLACK_SECONDS = 0.5
SAME_CLOCK = 1e-6
"""Sums of one clock's readings agree to this fraction."""
NORMAL_95 = 1.96
"""Standard errors in the half-width of a validation."""


def beyond(part: float, whole: float) -> bool:
    """Whether a part takes longer than the whole, by more than two clocks may disagree."""
    return part > whole * SLACK + SLACK_SECONDS


def training_faults(result: Result, metric: MetricFacts) -> Faults:
    """What is wrong with the training of a result, complete or cut short."""
    cell, training = result.cell, result.training
    trains = cell.trains
    if training is None:
        if trains and result.status is Status.OK:
            yield "training", "is absent, though the cell trains"
        return
    if not trains and training.steps:
        yield "training", f"has {training.steps} steps, though the cell does not train"
    yield from _block_faults(cell, training)
    yield from _resume_faults(training)
    yield from _validation_faults(cell, training, metric)
    yield from _target_faults(cell, training, metric)
    if result.status is Status.OK and trains:
        yield from _step_faults(cell, training)
        yield from _budget_faults(cell, training)
        yield from _loss_faults(cell, training)
    if result.scores is not None:
        yield from _state_faults(cell, training, result.scores.state, metric)


def _block_faults(cell: Cell, training: Training) -> Faults:
    blocks = (*training.warmup, *training.blocks)
    steps, seconds = sum(b.steps for b in blocks), sum(b.seconds for b in blocks)
    if steps != training.steps:
        yield "clock", f"the blocks have {steps} steps, the training {training.steps}"
    if not math.isclose(seconds, training.seconds, rel_tol=SAME_CLOCK, abs_tol=SAME_CLOCK):
        yield "clock", f"the blocks take {seconds:.6g} s, the training {training.seconds:.6g} s"
    if training.tasks != training.steps * cell.budget.tasks:
        yield (
            "training",
            f"counts {training.tasks} tasks, {training.steps} steps of {cell.budget.tasks} are "
            f"{training.steps * cell.budget.tasks}",
        )
    if any(b.steps < 1 or not b.seconds > 0 for b in blocks):
        yield "clock", "a block has no steps or took no time"
    if any(map(_parts_disagree, blocks)):
        yield "clock", "the parts of a block take longer than the block"


def _resume_faults(training: Training) -> Faults:
    if not all(0 < step <= training.steps for step in training.resumed):
        yield "training", f"resumed after steps {list(training.resumed)}, though it has {training.steps}"
    elif list(training.resumed) != sorted(training.resumed):
        yield "training", f"resumed after steps {list(training.resumed)}, not in their order"


def _parts_disagree(block: Block) -> bool:
    """Return whether a part of a block is negative, or all of them take longer than the block."""
    parts = (block.sampling, block.learning, block.updating, block.communication)
    return min(parts) < 0 or beyond(sum(parts), block.seconds)


def _budget_faults(cell: Cell, training: Training) -> Faults:
    """An end of training that the budget does not give."""
    budget, planned, ended = cell.budget, cell.planned_steps, training.ended_by
    if ended not in ("steps", "seconds", "target", "patience", "images"):
        yield "training", f"ended by {ended!r}"
    elif ended == ("images" if planned == budget.steps else "steps"):
        yield "training", f"ended by {ended}, the budget is {budget.steps} steps or {budget.images} images"
    if training.steps > planned or (ended in ("steps", "images") and training.steps != planned):
        yield "training", f"has {training.steps} steps and ended by {ended}, the budget is {planned}"
    later = sum(v.step > (training.best_step or 0) for v in training.validations)
    if ended == "patience" and not 0 < budget.patience == later:
        yield "training", f"ended {later} validations after the best, the patience is {budget.patience}"
    if ended == "seconds" and not 0 < budget.seconds <= training.seconds:
        yield "training", f"ended by time after {training.seconds:.3g} s, the budget is {budget.seconds:g} s"
    if ended == "target" and training.target_step != training.steps:
        yield "training", f"ended by its target after {training.steps} steps, which no validation reached"


def _loss_faults(cell: Cell, training: Training) -> Faults:
    ends = list(accumulate(block.steps for block in training.timeline(cell.warmup_steps)))
    if [step for step, _ in training.losses] != ends:
        yield "losses", f"are of {len(training.losses)} steps, not of the ends of the {len(ends)} blocks"
    if not all(math.isfinite(loss) for _, loss in training.losses):
        yield "losses", "some are no finite numbers"


def _validation_faults(cell: Cell, training: Training, metric: MetricFacts) -> Faults:
    validations = training.validations
    yield from _validation_times(cell, training)
    means = np.array([v.mean for v in validations], dtype=np.float64)
    if not metric.inside(means):
        yield "validation", f"a mean is no finite number from {metric.low:g} to {metric.high:g}"
        return
    answers = cell.test.ways * cell.test.queries * cell.budget.validation_tasks
    equal = not isinstance(cell.test, VariedProtocol)
    if (
        equal
        and metric.name == "accuracy"
        and (np.abs(means * answers - (means * answers).round()) > 0.05).any()
    ):
        yield "validation", f"a mean is no number of right answers of {answers}"
    if not all(0 <= v.half_width <= _widest(v, cell, metric) for v in validations):
        yield "validation", "a half-width is wider than any scores of that mean give"


def _step_faults(cell: Cell, training: Training) -> Faults:
    steps, asked = [v.step for v in training.validations], _validated_steps(cell, training)
    if steps != asked:
        yield "validation", f"after the steps {_brief(steps)}, the budget asks for {_brief(asked)}"


def _validated_steps(cell: Cell, training: Training) -> list[int]:
    """The steps after which the loop validates: every `validate_every`, and after the last one."""
    every, last = cell.budget.validate_every, training.steps
    if not every or not last:
        return []
    steps = list(range(every, last + 1, every)) if last // every < 10**6 else []
    complete = training.ended_by in ("seconds", "target") or last == cell.planned_steps
    return [*steps, last] if complete and last % every else steps


def _validation_times(cell: Cell, training: Training) -> Faults:
    """A validation's training time is that of the blocks before it."""
    blocks = training.timeline(cell.warmup_steps)
    ends = accumulate(block.steps for block in blocks)
    seconds = dict(zip(ends, accumulate(block.seconds for block in blocks), strict=True))
    for validation in training.validations:
        own = seconds.get(validation.step, math.nan)
        if not math.isclose(validation.train_seconds, own, rel_tol=SAME_CLOCK, abs_tol=SAME_CLOCK):
            yield (
                "clock",
                f"the validation after step {validation.step} is timed {validation.train_seconds:.6g} s, "
                f"the blocks before it take {own:.6g} s",
            )
            return


def _widest(validation: Validation, cell: Cell, metric: MetricFacts) -> float:
    """The widest half-width that scores within the metric's bounds can have around this mean.

    Their variance is at most (high - mean)·(mean - low) (Bhatia and Davis 2000), and where only `low` is
    known, that of a single task which has the whole sum.
    """
    tasks, low, high = cell.budget.validation_tasks, metric.low, metric.high
    room = min(high - validation.mean, tasks * (validation.mean - low))
    if not math.isfinite(room):
        return math.inf
    variance = max(0.0, room) * max(0.0, validation.mean - low)
    return NORMAL_95 * math.sqrt(variance / (tasks - 1)) * SLACK + SCORE_ROUNDING


def _target_faults(cell: Cell, training: Training, metric: MetricFacts) -> Faults:
    target = cell.budget.target
    reaching = (v for v in training.validations if target is not None and _reaches(v.mean, target, metric))
    first = next(reaching, None)
    if training.target_step != (first.step if first else None):
        when = f"after step {first.step}" if first else "never"
        yield (
            "target",
            f"stored as reached after step {training.target_step}, the validations reach it {when}",
        )
    elif training.target_seconds != (first.train_seconds if first else None):
        yield "target", f"stored as reached after {training.target_seconds} s, not when it was validated"
    if training.ended_by != "target" and training.target_energy:
        yield "target", "has an energy, though training did not end by it"


def _reaches(mean: float, target: float, metric: MetricFacts) -> bool:
    return mean >= target if metric.higher_is_better else mean <= target


def _state_faults(cell: Cell, training: Training, state: str, metric: MetricFacts) -> Faults:
    """The state that was scored is that of the best validation, the first of equals."""
    best = best_step(training, metric.higher_is_better)
    if training.best_step != best:
        yield "best step", f"is {training.best_step}, the best validation is after step {best}"
    expected = "last" if best is None else f"best validation, step {best}"
    if cell.scored:
        expected = "kept"
    if state != expected:
        yield "best step", f"the state {state!r} was scored, the loop scores {expected!r}"


def best_step(training: Training, higher_is_better: bool) -> int | None:
    """The step of the best validation, the first of equals; None where nothing was validated."""
    if not training.validations:
        return None
    sign = 1 if higher_is_better else -1
    return max(training.validations, key=lambda v: (sign * v.mean, -v.step)).step


def _brief(steps: list[int]) -> str:
    return ", ".join(map(str, steps[:6])) + (", …" if len(steps) > 6 else "") if steps else "none"


def times_of(result: Result) -> Iterator[float]:
    """Every time that a result holds, in seconds."""
    yield from (*result.setup.values(), result.wall_seconds)
    if result.scores is not None:
        scores = result.scores
        yield from (scores.seconds, scores.predict_seconds, *scores.adapt_seconds, *scores.latency_seconds)
    if result.training is not None:
        training = result.training
        yield from (training.seconds, training.validation_seconds)
        yield from (block.seconds for block in (*training.warmup, *training.blocks))
