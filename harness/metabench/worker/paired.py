"""Pieces of work timed in one process, in blocks that take turns; the training steps of two cells so timed.

Two runs of one loop minutes apart were seen to differ by 30 %; alternating blocks meet the same noise of the
machine, so that their ratio shows differences of a few per cent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from metabench.contracts import Backend
from metabench.device.device import Device
from metabench.errors import RequestError
from metabench.plugins import Registry
from metabench.records.cell import Cell
from metabench.stats import Ratio, time_ratio
from metabench.worker.cell_run import build, draw, learn

WARMUP_CALLS = 3

Work = Callable[[], object]


@dataclass(frozen=True)
class RoundTimes:
    """Seconds of a call of each piece of work, by name, in each round."""

    seconds: Mapping[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        """Return the median seconds of a call."""
        return float(np.median(self.seconds[name]))

    def ratios(self, name: str, base: str) -> tuple[float, float, float]:
        """Return quartiles of the time of `name` over that of `base` in the same round: 25, 50, 75 %."""
        ratios = np.divide(self.seconds[name], self.seconds[base])
        low, middle, high = (float(value) for value in np.quantile(ratios, [0.25, 0.5, 0.75]))
        return low, middle, high


def take_turns(
    works: Mapping[str, Work],
    clock: Callable[[], float],
    rounds: int,
    block_seconds: float,
    after_round: Work = lambda: None,
) -> RoundTimes:
    """Time a block of each piece of work in every round; every second round in the reverse order."""
    calls = {name: _calls_per_block(work, clock, block_seconds) for name, work in works.items()}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name in list(works) if number % 2 == 0 else list(works)[::-1]:
            seconds[name].append(_seconds_per_call(works[name], calls[name], clock))
        after_round()
    return RoundTimes({name: tuple(values) for name, values in seconds.items()})


@dataclass(frozen=True)
class PairedTimes:
    """Seconds of one call of each piece of work in each pair of blocks."""

    base_seconds: tuple[float, ...]
    new_seconds: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """new / base of each pair of blocks."""
        return [new / base for base, new in zip(self.base_seconds, self.new_seconds, strict=True)]

    @property
    def ratio(self) -> Ratio:
        """new / base, with its confidence interval."""
        return time_ratio(self.new_seconds, self.base_seconds)


def alternate(
    base: Work,
    new: Work,
    clock: Callable[[], float],
    pairs: int = 20,
    block_seconds: float = 0.5,
    after_pair: Work = lambda: None,
) -> PairedTimes:
    """Time pairs of blocks of about `block_seconds` each; the order within a pair alternates too.

    clock: seconds, read when everything queued on the device has run (`Device.clock`); after_pair: called
    after each pair of blocks, for what is to be measured in the same minutes.
    """
    times = take_turns({"base": base, "new": new}, clock, pairs, block_seconds, after_pair).seconds
    return PairedTimes(times["base"], times["new"])


def _calls_per_block(work: Work, clock: Callable[[], float], block_seconds: float) -> int:
    """How many calls fill a block, measured after a warm-up."""
    _seconds_per_call(work, WARMUP_CALLS, clock)
    return max(1, round(block_seconds / max(_seconds_per_call(work, WARMUP_CALLS, clock), 1e-9)))


def _seconds_per_call(work: Work, calls: int, clock: Callable[[], float]) -> float:
    started = clock()
    for _ in range(calls):
        work()
    return (clock() - started) / calls


def pair(
    base: Cell, new: Cell, registry: Registry, pairs: int = 20, block_seconds: float = 0.5
) -> PairedTimes:
    """Time the training steps of two cells in alternating blocks.

    Raises RequestError where the cells have different backends, several ranks, or nothing to train.
    """
    _require_comparable(base, new)
    backend: Backend = registry.make("backend", base.backend)
    with backend.open() as device, device.numerics():
        base_step, new_step = (_training_step(cell, registry, device) for cell in (base, new))
        return alternate(base_step, new_step, device.clock, pairs, block_seconds)


def _require_comparable(base: Cell, new: Cell) -> None:
    if base.backend != new.backend:
        raise RequestError(
            f"{base.id} and {new.id} have different backends ({base.backend.name}, {new.backend.name}): "
            "one process has one backend"
        )
    if base.ranks > 1:
        raise RequestError(f"{base.id} has several ranks: a paired timing is made in one process")
    for cell in (base, new):
        if not cell.trains:
            raise RequestError(f"{cell.id} trains nothing: it has no training steps to time")


def _training_step(cell: Cell, registry: Registry, device: Device) -> Work:
    """The training step of a cell: sampling, learning, updating; its steps repeat once they are done."""
    run = build(cell, registry.make, device)
    learner, parameters, steps = run.learner, run.learner.parameters(), cell.planned_steps
    steps_done = 0

    def step() -> None:
        nonlocal steps_done
        number = steps_done % steps  # schedules end with the budget
        learn(learner, draw(run, number), number, steps)
        device.average_gradients(parameters, 1.0)
        learner.update(number, steps)
        steps_done += 1

    return step
