"""Project the step of N GPUs from steps measured on one: a model, and no measurement.

    python benchmarks/projection.py --step 32:0.0017 --step 256:0.0080 --parameters 112261

A step of n tasks on a GPU takes `fixed + n · per_task` seconds, by the two steps given (tasks:seconds). Ranks
add a ring all-reduce of the gradients: 2 (N − 1) / N of their bytes at the link's speed, and a latency for
each of its 2 (N − 1) turns.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

LINKS = {"NVLink": 450e9, "PCIe": 64e9}
"""Bytes/s in one direction: NVLink 4 of an H100 or H200 SXM, 900 GB/s both ways (NVIDIA H100 and H200 data
sheets), and PCIe 5.0 × 16, 128 GB/s both ways (the same data sheets)."""
TURN_SECONDS = 5e-6  # of one turn of the ring: an assumption, to be replaced by what a node measures
RANKS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Step:
    """Seconds of a step on one GPU: fixed, and of each task."""

    fixed: float
    per_task: float

    @staticmethod
    def through(first: tuple[int, float], second: tuple[int, float]) -> Step:
        """Return the line through two measured steps (tasks, seconds)."""
        per_task = (second[1] - first[1]) / (second[0] - first[0])
        return Step(first[1] - first[0] * per_task, per_task)

    def seconds(self, tasks: float) -> float:
        """Return the seconds of so many tasks."""
        return self.fixed + tasks * self.per_task


def all_reduce_seconds(size: int, ranks: int, link: float) -> float:
    """Return the seconds of a ring all-reduce of `size` bytes over links of so many bytes/s."""
    return 2 * (ranks - 1) * (TURN_SECONDS + size / ranks / link)


def main() -> None:
    """Print the table of projected speed-ups, strong and weak."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step", action="append", required=True, help="tasks:seconds, twice", type=_step)
    parser.add_argument("--parameters", type=int, required=True, help="float32 numbers that are trained")
    arguments = parser.parse_args()
    if len(arguments.step) != 2 or arguments.step[0][0] == arguments.step[1][0]:
        parser.error("--step must be given twice, for different numbers of tasks")
    first, second = sorted(arguments.step)
    step, tasks, size = Step.through(first, second), second[0], 4 * arguments.parameters
    print(f"PROJECTION, not measured: {tasks} tasks, all-reduce of {size / 1e6:.2f} MB")
    print("| GPUs | link | all-reduce, ms | strong: step, ms | speed-up | weak: efficiency |")
    print("| --- | --- | --- | --- | --- | --- |")
    for ranks in RANKS:
        for link, speed in LINKS.items() if ranks > 1 else [("–", 1.0)]:
            exchange = all_reduce_seconds(size, ranks, speed)
            strong = step.seconds(tasks / ranks) + exchange
            weak = step.seconds(tasks) / (step.seconds(tasks) + exchange)
            print(
                f"| {ranks} | {link} | {1e3 * exchange:.3f} | {1e3 * strong:.2f} | "
                f"{step.seconds(tasks) / strong:.2f} × | {weak:.1%} |"
            )


def _step(text: str) -> tuple[int, float]:
    tasks, seconds = text.split(":")
    return int(tasks), float(seconds)


if __name__ == "__main__":
    main()
