"""Several pieces of work timed in one process, in blocks that take turns, so that all meet the same noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

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


def _calls_per_block(work: Work, clock: Callable[[], float], block_seconds: float) -> int:
    _seconds_per_call(work, WARMUP_CALLS, clock)
    return max(1, round(block_seconds / max(_seconds_per_call(work, WARMUP_CALLS, clock), 1e-9)))


def _seconds_per_call(work: Work, calls: int, clock: Callable[[], float]) -> float:
    started = clock()
    for _ in range(calls):
        work()
    return (clock() - started) / calls
