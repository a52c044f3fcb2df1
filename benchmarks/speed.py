"""How much faster metabench's learners are than the loops over tasks that people use today, on this machine.

    python benchmarks/speed.py                        every row, 2 threads, some minutes
    python benchmarks/speed.py --quick --threads 1    seconds a row, to see that it works
    python benchmarks/speed.py --rows sine-maml,conv-1shot --compiled

A row is one whole meta-step (meta-gradient and update) of both on the same network, weights, tasks and
threads, timed in alternating blocks of one process: the median of the pairs' ratios with their quartiles.
Before the clock runs, the meta-gradients of both are compared in float64; float32 is timed. Exit status 1
where a row is below what is wanted. `_contest.py` holds the rows and says which loops they meet.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import torch
from _contest import ROWS, STEPS, Row, contest, difference, episodes_of, has_learn2learn, has_loop, learner_of

from metabench.device import Device
from metabench.device.host import processor
from metabench.device.memory import keep_freed_memory
from metabench.worker.flops import flops_per_step
from metabench.worker.paired import PairedTimes, alternate

MEMORY_LIMIT_MIB = 250
MEMORY_ROW = Row(
    "32 tasks 5-way 1-shot, 5 second-order steps", "maml", "conv4", {"inner_rate": 0.1, "steps": 5}, 0, 0
)


def main() -> int:
    """Print a line for each row, and the JSON of all of them with --json; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="a few short blocks")
    parser.add_argument("--compiled", action="store_true", help="ours compiled as a whole (MAML rows)")
    parser.add_argument("--memory", action="store_true", help="check the peak memory as well")
    parser.add_argument("--json", action="store_true", help="end with all figures as one JSON line")
    parser.add_argument("--print-peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    if options.print_peak:
        print_peak()
        return 0
    names = options.rows.split(",")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; there are: {', '.join(ROWS)}")
    print(
        f"{processor()}, torch {torch.__version__}, {options.threads} threads, loops: "
        + ("learn2learn" if has_learn2learn() else "plain ones of the same operations")
    )
    figures = [measure(name, options.quick, options.compiled) for name in names if _has_loop(name)]
    if options.memory:
        figures.append(measure_memory(options.threads))
    if options.json:
        print(json.dumps(figures))
    return 0 if all(row["ok"] for row in figures) else 1


def _has_loop(name: str) -> bool:
    if has_loop(ROWS[name]):
        return True
    print(f"{ROWS[name].title:44s} left out: its loop needs learn2learn, which is not installed")
    return False


def measure(name: str, quick: bool = False, compiled: bool = False) -> dict[str, Any]:
    """Time a row in alternating blocks; print and return its figures."""
    row = ROWS[name]
    execution = "compiled" if compiled and row.algorithm == "maml" else "eager"
    apart = difference(row, execution=execution)
    pairs, block_seconds = (3, 0.1) if quick else (31, 0.4)
    peaks: list[float] = []
    both, clock = contest(row, execution=execution), Device().clock
    times = alternate(
        both.our_step, both.loop_step, clock, pairs, block_seconds, lambda: peaks.append(matrix_peak())
    )
    figures = {
        "row": name, "execution": execution, "ok": float(np.median(times.ratios)) >= row.at_least,
        "ratio": float(np.median(times.ratios)), "quartiles": quartiles(times), "pairs": pairs,
        "gradients_apart": apart, "flops": flops_per_step(learner_of(row), episodes_of(row)),
        "seconds": statistics.median(times.base_seconds),
        "loop_seconds": statistics.median(times.new_seconds),
        "peak_flops_per_second": statistics.median(peaks),
    }  # fmt: skip
    print(line(row, figures), flush=True)
    return figures


def quartiles(times: PairedTimes) -> list[float]:
    """Return the middle half of the pairs' ratios: their lower and upper quartile."""
    return [float(value) for value in np.quantile(times.ratios, [0.25, 0.75])]


def line(row: Row, figures: dict[str, Any]) -> str:
    """Return a row of the table as text."""
    low, high = figures["quartiles"]
    seconds, flops = figures["seconds"], figures["flops"] or 0.0
    fraction = flops / seconds / figures["peak_flops_per_second"]
    return (
        f"{row.title:44s} {figures['ratio']:6.2f}× [{low:.2f}, {high:.2f}] of {figures['pairs']:3d} pairs | "
        f"wanted {row.at_least:g}×, aim {row.aim:g}×: {'ok' if figures['ok'] else 'BELOW'} | "
        f"{row.tasks / seconds:.0f} and {row.tasks / figures['loop_seconds']:.0f} tasks/s, "
        f"{1e3 * seconds:.2f} ms, {flops / 1e9:.2f} GFLOP a meta-step, {fraction:.0%} of "
        f"{figures['peak_flops_per_second'] / 1e9:.0f} GFLOP/s | "
        f"gradients {figures['gradients_apart']:.0e} apart"
    )


def matrix_peak(side: int = 1024) -> float:
    """Return the FLOP/s of a product of matrices on this machine, at this moment."""
    a = torch.ones(side, side)
    torch.mm(a, a)
    return 2 * side**3 / min(seconds_of(lambda: torch.mm(a, a)) for _ in range(3))


def seconds_of(work: Callable[[], object]) -> float:
    """Return the wall seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure_memory(threads: int) -> dict[str, Any]:
    """Return the peak resident memory over the base of a large meta-step, in a process of its own."""
    argv = [sys.executable, __file__, "--print-peak", "--threads", str(threads)]
    mib = int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout) / 2**20
    verdict = "ok" if mib < MEMORY_LIMIT_MIB else "ABOVE"
    print(
        f"peak memory of {MEMORY_ROW.title}: {mib:.0f} MiB over the base, wanted below {MEMORY_LIMIT_MIB}: "
        f"{verdict}"
    )
    return {"row": "memory", "mib_over_base": mib, "ok": mib < MEMORY_LIMIT_MIB}


def print_peak() -> None:
    """Print by how many bytes meta-steps raise the peak over what was resident before."""
    learner, episodes = learner_of(MEMORY_ROW), episodes_of(MEMORY_ROW)
    base = psutil.Process().memory_info().rss
    for _ in range(3):
        learner.learn(episodes, 0, STEPS)
    print(int(Device().peak_memory()["host"]) - base)


if __name__ == "__main__":
    sys.exit(main())
