"""How fast trained learners are scored beside learn2learn's loop over tasks, sampling of the tasks included.

    python benchmarks/evaluation.py                        each row, 2 threads
    python benchmarks/evaluation.py --threads 1 --cpu-time --quick

A row is a batch of 5-way 1-shot tasks of glyphs with 5 queries a class: drawn, adapted to, predicted and
scored, by ours and by the library, in blocks that take turns. The predictions of both
are compared in float64 first. Exit status 1 where a row is below what is wanted of it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from _contest import IMAGE, LIBRARY, OF_QUERIES, Row, _built, _dataset, has_learn2learn
from torch import Tensor

from metabench import Learner, Protocol
from metabench.device import Device
from metabench.device.host import processor
from metabench.device.memory import keep_freed_memory
from metabench.worker.paired import take_turns

BATCH = 32  # tasks, as `evaluation.batch` has by default
QUERIES = 5  # of a class
SAME_PREDICTIONS = 1e-9


class Wanted(NamedTuple):
    """A row; how many times faster than the loop it must and should be."""

    row: Row
    at_least: float
    aim: float


ROWS = {
    "protonet": Wanted(Row("ProtoNet", "protonet", "conv4", {}, 0, 0, OF_QUERIES), 1.4, 2),
    "maml-1": Wanted(Row("MAML, 1 step", "maml", "conv4", IMAGE, 0, 0), 2.1, 4),
    "maml-5": Wanted(Row("MAML, 5 steps", "maml", "conv4", IMAGE | {"steps": 5}, 0, 0), 2.3, 4),
}


def main() -> int:
    """Print the line of each row; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="a few short blocks")
    parser.add_argument("--cpu-time", action="store_true", help="for one thread on a shared machine")
    options = parser.parse_args()
    if not has_learn2learn():
        parser.error("the loop needs learn2learn, which is not installed")
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    clock = time.process_time if options.cpu_time else Device().clock
    print(f"{processor()}, {options.threads} threads, {'CPU' if options.cpu_time else 'wall'} time")
    fast = [measure(ROWS[name], clock, options.quick) for name in options.rows.split(",")]
    return 0 if all(fast) else 1


def measure(wanted: Wanted, clock: Callable[[], float], quick: bool) -> bool:
    """Time a row and print it; return whether it is what is wanted."""
    apart = difference(wanted.row)
    ours, loop = (Evaluation(wanted.row, library, Device()) for library in (False, True))
    rounds, block_seconds = (3, 0.1) if quick else (15, 0.5)
    times = take_turns({"ours": ours.score, "loop": loop.score}, clock, rounds, block_seconds)
    low, ratio, high = times.ratios("loop", "ours")
    rates = {name: BATCH / times.median(name) for name in ("ours", "loop")}
    verdict = "ok" if ratio >= wanted.at_least else "BELOW"
    print(
        f"{wanted.row.title}: {verdict}, {ratio:.2f}× [{low:.2f}, {high:.2f}] of learn2learn's loop, "
        f"{rates['ours']:.0f} against {rates['loop']:.0f} tasks/s, predictions {apart:.0e} apart; "
        f"wanted {wanted.at_least:g}× (aim {wanted.aim:g}×)",
        flush=True,
    )
    return ratio >= wanted.at_least


class Evaluation:
    """A learner that scores batch after batch of tasks. library: learn2learn's in place of ours."""

    def __init__(self, row: Row, library: bool, device: Device) -> None:
        settings = dict(row.settings) if library else {**row.settings, **row.own_settings}
        name = LIBRARY[row.algorithm] if library else row.algorithm
        self.learner: Learner = _built(name, settings, row, device)
        self.source = _dataset(row).load(device)
        self.protocol = Protocol(row.protocol.ways, row.protocol.shots, QUERIES)
        self.first = 0

    def predictions(self) -> tuple[Tensor, Tensor]:
        """Return predictions [T, q, ways] and targets [T, q] of the next batch of tasks."""
        tasks = range(self.first, self.first + BATCH)
        self.first += BATCH
        episodes = self.source.episodes("test", self.protocol, tasks, seed=0)
        with torch.no_grad():
            state = self.learner.adapt(episodes.support)
            return self.learner.predict(state, episodes.query.x), episodes.query.y

    def score(self) -> Tensor:
        """Return the accuracy of each of the next tasks, [T]."""
        prediction, target = self.predictions()
        return (prediction.argmax(2) == target).float().mean(1)


def difference(row: Row) -> float:
    """Return the largest difference of both predictions in float64, as a fraction of the largest.

    Raises SystemExit where it is larger than SAME_PREDICTIONS.
    """
    device = Device("cpu", torch.float64)
    (ours, _), (loop, _) = (Evaluation(row, library, device).predictions() for library in (False, True))
    shift = [prediction - prediction.mean(2, keepdim=True) for prediction in (ours, loop)]  # logits: up to it
    apart = float((shift[0] - shift[1]).abs().max() / shift[1].abs().max())
    if not apart <= SAME_PREDICTIONS:
        raise SystemExit(
            f"{row.title}: predictions differ by {apart:.1e}; not the same work, nothing is timed"
        )
    return apart


if __name__ == "__main__":
    sys.exit(main())
