"""The only training and evaluation loop: it samples, times, validates, keeps the best state and scores.

Algorithms never time or score themselves. Each rank runs this same loop over its own slice of the tasks;
everything that decides a turn (an end by time, by target, by divergence) is agreed between the ranks.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from metabench.contracts import Episodes, Examples, Learner, Metric, Source
from metabench.device.device import Device
from metabench.device.exchange import Joules
from metabench.errors import Diverged, Skip
from metabench.records.cell import Batches, Budget, Cell, Evaluation, Protocol, Split
from metabench.records.result import Block, Scores, Training, Validation

LONGEST_BLOCK = 50  # steps
WARMUP_STEPS = 5
SPOKEN_SECONDS = 0.5  # between two progress events
NORMAL_95 = 1.96  # standard errors in half a 95 % interval

Say = Callable[[Mapping[str, Any]], None]


@dataclass
class Run:
    """One cell while it runs: what it is made of, and what has been measured so far."""

    cell: Cell
    learner: Learner
    source: Source
    metric: Metric
    device: Device
    say: Say = lambda event: None
    training: Training = field(default_factory=Training)
    best_state: dict[str, Any] | None = None

    def finish(self) -> None:
        """Lets the learner compute what it needs before it is scored."""
        self.learner.finish(_labelled(self.source, self.cell))


def share(count: int, device: Device) -> range:
    """The contiguous slice of `count` units that belongs to this rank."""
    start = count * device.rank // device.world_size
    return range(start, count * (device.rank + 1) // device.world_size)


def units(cell: Cell) -> int:
    """How many units of a training step ranks can share out: tasks, or micro-batches."""
    return cell.train.units if isinstance(cell.train, Batches) else cell.budget.tasks


def train(run: Run) -> None:
    """Trains within the cell's budget; leaves what it measured in `run.training`, at every moment.

    Raises Diverged where the loss is no finite number, Skip where there are more ranks than tasks.
    """
    cell, budget, device = run.cell, run.cell.budget, run.device
    if cell.train is None or budget.steps == 0:
        return
    total = units(cell)
    if device.world_size > total:
        raise Skip(f"{device.world_size} ranks are more than the {total} tasks of a meta-step")
    weight = len(share(total, device)) / total
    clock = _BlockClock(run, block_steps(budget), min(WARMUP_STEPS, max(1, budget.steps // 20)))
    energy = Joules(device)
    energy.resume()
    parameters = run.learner.parameters()
    for step in range(budget.steps):
        clock.start()
        batch = _drawn(run, cell.train, step)
        clock.lap()
        losses = run.learner.learn(batch, step, budget.steps)
        clock.lap()
        device.average_gradients(parameters, weight)
        clock.lap()
        run.learner.update(step, budget.steps)
        clock.lap()
        if clock.step_done(step, losses.detach()):
            ended = _checked(run, step + 1, energy)
            if ended is not None:
                run.training = replace(run.training, ended_by=ended)
                break
    energy.pause()
    used = energy.summed()
    reached = run.training.ended_by == "target"
    run.training = replace(run.training, energy=used, target_energy=used if reached else {})
    if run.best_state is not None:
        run.learner.load_state_dict(run.best_state)


def evaluate(run: Run) -> Scores:
    """Scores the test tasks, with the curve, the latency and the check of the transduction claim."""
    cell, wanted, device = run.cell, run.cell.evaluation, run.device
    started = device.clock()
    run.finish()
    scored = _score(run, "test", wanted.tasks)
    if not np.isfinite(scored.per_task).all():
        raise Diverged("the score of a test task is no finite number")
    curve = {
        str(steps): tuple(_score(run, "test", wanted.tasks, steps).per_task)
        for steps in wanted.curve
    }  # fmt: skip
    latency = _latency(run, wanted)
    transductive = _depends_on_queries(run)
    best = run.training.best_step
    return Scores(
        metric=wanted.metric,
        unit=run.metric.unit,
        higher_is_better=run.metric.higher_is_better,
        per_task=tuple(scored.per_task),
        manifest=manifest_digest(run.source, "test", cell.test, wanted),
        seconds=device.slowest(device.clock() - started),
        adapt_seconds=tuple(scored.adapt_seconds),
        adapt_tasks=tuple(scored.adapt_tasks),
        predict_seconds=scored.predict_seconds,
        latency_seconds=tuple(latency),
        curve=curve,
        transductive=run.learner.transductive,
        transductive_found=transductive,
        state="last" if best is None else f"best validation, step {best}",
    )


def draw(run: Run, step: int) -> Episodes | Examples | None:
    """This rank's slice of the tasks (or micro-batches) of a step; None where there is nothing to train."""
    cell = run.cell
    return None if cell.train is None or cell.budget.steps == 0 else _drawn(run, cell.train, step)


def _drawn(run: Run, protocol: Protocol | Batches, step: int) -> Episodes | Examples:
    total = units(run.cell)
    mine = share(total, run.device)
    numbers = range(step * total + mine.start, step * total + mine.stop)
    if isinstance(protocol, Batches):
        return run.source.batch(protocol, numbers, run.cell.seed)
    return run.source.episodes("train", protocol, numbers, run.cell.seed)


def manifest_digest(source: Source, split: Split, protocol: Protocol, wanted: Evaluation) -> str:
    """SHA-256 over what the tasks are made of: the same for every algorithm, seed, backend and rank."""
    told = source.manifest(split, protocol, range(wanted.tasks), wanted.seed)
    digest = hashlib.sha256()
    for name in sorted(told):
        array = np.ascontiguousarray(told[name])
        digest.update(f"{name}:{array.shape}:{array.dtype.str}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def block_steps(budget: Budget) -> int:
    """Steps of a block: about 40 blocks a run, a divisor of the validation interval, never very long."""
    longest = max(1, min(budget.steps // 40, LONGEST_BLOCK, 10 if budget.seconds else LONGEST_BLOCK))
    if not budget.validate_every:
        return longest
    return max(n for n in range(1, longest + 1) if budget.validate_every % n == 0)


PARTS = ("sampling", "learning", "communication", "updating")


class _BlockClock:
    """Times steps in blocks on the training clock, which stands still between blocks.

    The parts of a step lie between moments that the device notes without waiting.
    """

    def __init__(self, run: Run, steps: int, warmup: int) -> None:
        self.run, self.steps, self.warmup = run, steps, warmup
        self.losses: list[torch.Tensor] = []
        self.moments: list[Any] = []  # when each step began, and when each of its parts ended
        self.moment = run.device.moment
        self.count = 0
        self.block_start = 0.0
        self.spoke = 0.0

    def start(self) -> None:
        if self.count == 0:
            self.block_start = self.run.device.clock()
            self.moments = []
        self.moments.append(self.moment())  # what lies before it, since the last step, is the loop's own

    def lap(self) -> None:
        self.moments.append(self.moment())

    def step_done(self, step: int, losses: torch.Tensor) -> bool:
        """Notes the step; closes the block where it ends. True where it did."""
        self.count += 1
        self.losses.append(losses)
        budget = self.run.cell.budget
        if step >= self.warmup and (step + 1) % self.steps and step + 1 < budget.steps:
            return False
        seconds = self.run.device.clock() - self.block_start
        self._close(step, seconds)
        return True

    def _close(self, step: int, seconds: float) -> None:
        run, device = self.run, self.run.device
        loss = torch.cat(self.losses)
        laps = device.seconds_between(self.moments)
        parts = [sum(laps[part :: len(PARTS) + 1]) for part in range(len(PARTS))]
        # one exchange a block: seconds, the parts, the sum of the losses and how many there are
        told = [seconds, *parts, float(loss.double().sum()), float(loss.numel())]
        ranks = device.gather(told)
        slowest = max(ranks, key=lambda values: values[0])
        block = Block(self.count, slowest[0], **dict(zip(PARTS, slowest[1:5], strict=True)))
        mean = sum(values[5] for values in ranks) / sum(values[6] for values in ranks)
        done = run.training
        warm = step < self.warmup
        run.training = replace(
            done,
            steps=step + 1,
            tasks=(step + 1) * run.cell.budget.tasks,
            seconds=done.seconds + block.seconds,
            warmup=(*done.warmup, block) if warm else done.warmup,
            blocks=done.blocks if warm else (*done.blocks, block),
            losses=(*done.losses, (step + 1, mean)),
        )
        self._speak(step, mean, block)
        self.count = 0
        self.losses = []
        if not math.isfinite(mean):
            raise Diverged(f"the training loss is {mean} after {step + 1} steps")

    def _speak(self, step: int, loss: float, block: Block) -> None:
        now = time.monotonic()
        if now - self.spoke < SPOKEN_SECONDS:
            return
        self.spoke = now
        budget = self.run.cell.budget
        per_step = block.seconds / block.steps
        left = (budget.steps - step - 1) * per_step
        if budget.seconds:
            left = min(left, budget.seconds - self.run.training.seconds)
        self.run.say(
            {"kind": "train", "step": step + 1, "steps": budget.steps, "loss": loss,
             "tasks_per_second": budget.tasks / per_step, "seconds_left": max(0.0, left)}
        )  # fmt: skip


def _checked(run: Run, step: int, energy: Joules) -> str | None:
    """Validates where it is time to; says why training ends, or None where it goes on."""
    budget = run.cell.budget
    out_of_time = bool(budget.seconds) and run.device.agree(run.training.seconds >= budget.seconds)
    last = step >= budget.steps or out_of_time
    if budget.validate_every and (step % budget.validate_every == 0 or last):
        energy.pause()
        reached = _validate(run, step)
        energy.resume()
        if reached:
            return "target"
    return "seconds" if out_of_time else None


def _validate(run: Run, step: int) -> bool:
    """Scores the validation tasks on a clock of their own; True where they reach the target."""
    budget, better = run.cell.budget, run.metric.higher_is_better
    started = run.device.clock()
    run.finish()
    scores = np.asarray(_score(run, "validation", budget.validation_tasks).per_task)
    mean = float(scores.mean())
    if not math.isfinite(mean):
        raise Diverged(f"the validation score is {mean} after {step} steps")
    half = float(NORMAL_95 * scores.std(ddof=1) / math.sqrt(len(scores)))
    done = run.training
    before = [v.mean for v in done.validations]
    best = not before or (mean > max(before) if better else mean < min(before))
    if best:
        run.best_state = copy.deepcopy(run.learner.state_dict())
    reached = budget.target is not None and (mean >= budget.target if better else mean <= budget.target)
    run.training = replace(
        done,
        validations=(*done.validations, Validation(step, done.seconds, mean, half)),
        validation_seconds=done.validation_seconds + run.device.clock() - started,
        best_step=step if best else done.best_step,
        target_step=step if reached else None,
        target_seconds=done.seconds if reached else None,
    )
    run.say({"kind": "validation", "step": step, "mean": mean, "half_width": half})
    return run.device.agree(reached)


@dataclass
class _Scored:
    per_task: list[float] = field(default_factory=list)
    adapt_seconds: list[float] = field(default_factory=list)
    adapt_tasks: list[float] = field(default_factory=list)
    predict_seconds: float = 0.0


def _score(run: Run, split: Split, count: int, steps: int | None = None) -> _Scored:
    """Scores tasks 0 … count-1 of a split, this rank its slice; every rank gets all scores, in order."""
    device, wanted = run.device, run.cell.evaluation
    mine, own = share(count, device), _Scored()
    for start in range(mine.start, mine.stop, wanted.batch):
        numbers = range(start, min(start + wanted.batch, mine.stop))
        episodes = run.source.episodes(split, run.cell.test, numbers, wanted.seed)
        with torch.no_grad():
            begun = device.clock()
            state = run.learner.adapt(episodes.support, steps)
            adapted = device.clock()
            prediction = run.learner.predict(state, episodes.query.x)
            predicted = device.clock()
            scores = run.metric.score(prediction, episodes.query.y)
        own.per_task += scores.tolist()
        own.adapt_seconds.append(adapted - begun)
        own.adapt_tasks.append(float(len(numbers)))
        own.predict_seconds += predicted - adapted
        if split == "test":
            run.say({"kind": "evaluate", "done": numbers.stop - mine.start, "tasks": len(mine)})
    return _Scored(
        per_task=_joined(device.gather(own.per_task)),
        adapt_seconds=_joined(device.gather(own.adapt_seconds)),
        adapt_tasks=_joined(device.gather(own.adapt_tasks)),
        predict_seconds=device.slowest(own.predict_seconds),
    )


def _latency(run: Run, wanted: Evaluation) -> list[float]:
    """Seconds to adapt to single tasks, one at a time, on this rank."""
    seconds = []
    for number in range(wanted.latency_tasks):
        episodes = run.source.episodes("test", run.cell.test, [number], wanted.seed)
        with torch.no_grad():
            begun = run.device.clock()
            run.learner.adapt(episodes.support)
            seconds.append(run.device.clock() - begun)
    return seconds


def _depends_on_queries(run: Run) -> bool | None:
    """Whether a query's prediction changes with the other queries of its task: in reverse, or in parts."""
    tasks = min(4, run.cell.evaluation.tasks)
    episodes = run.source.episodes("test", run.cell.test, range(tasks), run.cell.evaluation.seed)
    queries = episodes.query.x
    if queries.shape[1] < 2:
        return None
    with torch.no_grad():
        state = run.learner.adapt(episodes.support)
        together = run.learner.predict(state, queries)
        return any(
            _differ(together[:, chosen], run.learner.predict(state, queries[:, chosen]))
            for chosen in _choices(queries.shape[1])
        )


def _choices(queries: int) -> list[list[int]]:
    """Queries to predict together: all in reverse, and parts of two at least, which batch norm needs."""
    every = list(range(queries))
    half = queries // 2
    parts = [every[:half], every[half:]] if half > 1 else [every[:2] if queries > 2 else [0, 0]]
    return [every[::-1], *parts]


def _differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether predictions differ by more than rounding; equal where both are NaN, or the same infinity."""
    finite = one[one.isfinite()]
    scale = (float(finite.abs().max()) if finite.numel() else 0.0) or 1.0
    tolerance = 1e-3 if one.dtype in (torch.float32, torch.float64) else 3e-2
    return not torch.allclose(one, other, rtol=0.0, atol=tolerance * scale, equal_nan=True)


def _labelled(source: Source, cell: Cell) -> Iterator[Examples]:
    """Endless micro-batches of meta-train, the same at each call."""
    micro = cell.train.micro if isinstance(cell.train, Batches) else 64
    number = 0
    while True:
        batch = source.batch(Batches(micro, micro), [number], cell.seed)
        yield Examples(batch.x[0], batch.y[0])
        number += 1


def _joined(ranks: Sequence[Sequence[float]]) -> list[float]:
    return [value for rank in ranks for value in rank]
