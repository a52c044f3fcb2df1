"""Times two pieces of work in one process, in alternating blocks, so that the machine's moods meet both.

Each pair of blocks gives one ratio; the order within a pair turns round from pair to pair.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Seconds of one call in each block, and what is compared: how many times `ours` is faster.

    ours, theirs: one value per pair of blocks, of the same moment.
    """

    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    calls: tuple[int, int]

    @property
    def ratios(self) -> list[float]:
        """theirs / ours of each pair: above 1 where ours is faster."""
        return [t / o for o, t in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        """The median ratio."""
        return float(np.median(self.ratios))

    @property
    def spread(self) -> tuple[float, float]:
        """The middle half of the ratios: their lower and upper quartile."""
        low, high = np.quantile(self.ratios, [0.25, 0.75])
        return float(low), float(high)


def alternate(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    blocks: int,
    block_seconds: float = 0.5,
    synchronize: Callable[[], object] = lambda: None,
    between: Callable[[], object] = lambda: None,
) -> Timing:
    """Times `blocks` pairs of blocks; each block repeats its call for about `block_seconds`.

    synchronize: waits until everything queued on the device has run; between: called after each pair of
    blocks, for what is to be measured at the same moments. Both calls are warmed up first, by
    two calls and then as many as tell how long one takes.
    """
    pair = ours, theirs
    calls = [_calls(call, block_seconds, synchronize) for call in pair]
    seconds: tuple[list[float], list[float]] = ([], [])
    for block in range(blocks):
        for which in (0, 1) if block % 2 == 0 else (1, 0):
            seconds[which].append(_timed(pair[which], calls[which], synchronize))
        between()
    return Timing(tuple(seconds[0]), tuple(seconds[1]), (calls[0], calls[1]))


def _calls(call: Callable[[], object], block_seconds: float, synchronize: Callable[[], object]) -> int:
    _timed(call, 2, synchronize)
    once = _timed(call, 2, synchronize)
    return max(1, math.ceil(block_seconds / once))


def _timed(call: Callable[[], object], times: int, synchronize: Callable[[], object]) -> float:
    """Seconds of one of so many calls."""
    synchronize()
    started = time.perf_counter()
    for _ in range(times):
        call()
    synchronize()
    return (time.perf_counter() - started) / times
