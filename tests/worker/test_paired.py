"""Two pieces of work in alternating blocks: who comes first, how long blocks are, and what the ratio is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.waves import waves_cell
from metabench import Cell, Spec
from metabench.errors import RequestError
from metabench.plugins import load
from metabench.worker.paired import WARMUP_CALLS, alternate, pair


@pytest.fixture
def waves(tmp_path: Path) -> Cell:
    """A small cell that trains."""
    return waves_cell(tmp_path)


class FakeClock:
    """A clock that only the work moves; notes the work of each block."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        self.calls.append("|")
        return self.now

    def work(self, name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.now += seconds
            self.calls.append(name)

        return run

    def blocks(self) -> list[str]:
        """The calls between two readings of the clock."""
        return [block for block in "".join(self.calls).split("|") if block]


def test_blocks_alternate_and_are_as_long_as_asked() -> None:
    clock = FakeClock()
    pairs_done = []

    times = alternate(
        clock.work("b", 0.1), clock.work("n", 0.05), clock, pairs=3, block_seconds=0.4,
        after_pair=lambda: pairs_done.append(len(clock.blocks())),
    )  # fmt: skip

    warm_up = ["b" * WARMUP_CALLS] * 2 + ["n" * WARMUP_CALLS] * 2
    base, new = "b" * 4, "n" * 8
    assert clock.blocks() == [*warm_up, base, new, new, base, base, new]
    assert pairs_done == [6, 8, 10]
    assert times.base_seconds == pytest.approx([0.1] * 3)
    assert times.new_seconds == pytest.approx([0.05] * 3)
    assert times.ratios == pytest.approx([0.5] * 3)
    assert times.ratio.ratio == pytest.approx(0.5)


def test_work_longer_than_a_block_runs_once_in_it() -> None:
    clock = FakeClock()

    alternate(clock.work("b", 2.0), clock.work("n", 3.0), clock, pairs=1, block_seconds=0.5)

    assert clock.blocks()[-2:] == ["b", "n"]


def test_a_slower_cell_is_found_by_blocks_in_turns(waves: Cell) -> None:
    more = replace(waves, budget=replace(waves.budget, tasks=400))

    same = pair(waves, waves, load(), pairs=8, block_seconds=0.03)
    slower = pair(waves, more, load(), pairs=8, block_seconds=0.03)

    assert len(same.base_seconds) == len(same.new_seconds) == 8
    assert 0.5 < same.ratio.ratio < 2
    assert slower.ratio.low > 1
    assert slower.ratio.ratio > same.ratio.ratio


def test_a_timing_pairs_single_processes_that_train(waves: Cell) -> None:
    still = replace(waves, budget=replace(waves.budget, steps=0))
    ranked = replace(waves, backend=Spec("cpu-ranks", {"ranks": 2, "threads": 1}))

    with pytest.raises(RequestError, match="trains nothing"):
        pair(waves, still, load())
    with pytest.raises(RequestError, match="different backends"):
        pair(waves, ranked, load())
    with pytest.raises(RequestError, match="several ranks"):
        pair(ranked, ranked, load())
