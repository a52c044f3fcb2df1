"""How much faster the engine is than the loop over tasks that people use today, on this machine.

    python benchmarks/speed.py                        every row, 2 threads, some minutes
    python benchmarks/speed.py --quick --threads 1    seconds a row, to see that it works
    python benchmarks/speed.py --rows sine-maml,conv-1shot --compiled

One process alternates blocks of both at the same mathematics, weights, tasks and threads, and turns their
order round from pair to pair; a row is the median of the pairs' ratios with their quartiles. Before the
clock runs, the meta-gradients of both are compared in float64; float32 is timed. Exit status 1 where a row
is below what is wanted. The loop is learn2learn's own (`clone`, `adapt`,
`backward` for each task) where it is installed, else a plain one that does the same operations.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch
from _alternate import alternate
from _loops import Sides, has_learn2learn, require_same_work, sides
from _rows import ROWS, Row, episodes_of, learner_of

from metabench.device import Device
from metabench.device.memory import keep_freed_memory
from metabench.worker.flops import counter

MEMORY_LIMIT_MIB = 250
Step = Callable[[], Any]


def main() -> int:
    """Reads the options, prints one line a row, and the JSON of all of them with --json.

    Returns 1 where a row is not what is wanted, else 0.
    """
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
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    if given.print_peak:
        print_peak()
        return 0
    unknown = [name for name in given.rows.split(",") if name not in ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; there are: {', '.join(ROWS)}")
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {given.threads} threads, "
        f"MAML's loop: {'learn2learn' if has_learn2learn() else 'plain, of the same operations'}"
    )
    told = [measured(name, given.quick, given.compiled) for name in given.rows.split(",")]
    if given.memory:
        told.append(memory(given.threads))
    if given.json:
        print(json.dumps(told))
    return 0 if all(one["ok"] for one in told) else 1


def measured(name: str, quick: bool, compiled: bool) -> dict[str, Any]:
    """Alternates blocks of ours and of the loop; prints and returns the figures."""
    row = ROWS[name]
    both = prepared(row, compiled)
    flops = flops_of(row)
    blocks, seconds = (3, 0.1) if quick else (31, 0.4)
    peaks: list[float] = []
    timing = alternate(both.ours, both.loop, blocks, seconds, between=lambda: peaks.append(matrix_peak()))
    low, high = timing.spread
    mine, peak = statistics.median(timing.ours), statistics.median(peaks)
    share = flops / mine / peak
    ok = timing.ratio >= row.at_least
    print(
        f"{row.title:44s} {timing.ratio:6.2f}× [{low:.2f}, {high:.2f}] of {blocks:3d} pairs | wanted "
        f"{row.at_least:g}×, aim {row.aim:g}×: {'ok' if ok else 'BELOW'} | {1e3 * mine:7.2f} ms, "
        f"{flops / 1e9:.2f} GFLOP a meta-step, {share:.0%} of {peak / 1e9:.0f} GFLOP/s",
        flush=True,
    )
    return {"row": name, "ratio": timing.ratio, "quartiles": [low, high], "blocks": blocks, "flops": flops,
            "seconds": mine, "peak_flops_per_second": peak, "ok": ok,
            "compiled": compiled and row.algorithm == "maml"}  # fmt: skip


def prepared(row: Row, compiled: bool = False) -> Sides:
    """What is timed, in float32, once the meta-gradients of both sides agree in float64."""
    execution = "compiled" if compiled else "eager"
    require_same_work(row, execution)
    return sides(row, execution)


def seconds_of(step: Step, repeats: int = 1) -> float:
    """Wall seconds of one step, as the mean of so many."""
    begin = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - begin) / repeats


def matrix_peak(side: int = 1024) -> float:
    """FLOP/s of this machine's own matrix product, at this moment."""
    a = torch.ones(side, side)
    torch.mm(a, a)
    return 2 * side**3 / min(seconds_of(lambda: torch.mm(a, a)) for _ in range(3))


def flops_of(row: Row) -> float:
    """FLOPs of a meta-step's convolutions and matrix products, counted on the operations as they run."""
    learner, episodes = learner_of(row), episodes_of(row)
    with counter() as counted:
        learner.learn(episodes, 0, 10)
    return float(counted.get_total_flops())


def memory(threads: int) -> dict[str, Any]:
    """Peak resident memory over the base of 32 tasks, 5-way 1-shot, 5 second-order steps."""
    argv = [sys.executable, __file__, "--print-peak", "--threads", str(threads)]
    over = int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout) / 2**20
    verdict = "ok" if over < MEMORY_LIMIT_MIB else "ABOVE"
    print(
        f"peak memory of 32 tasks 5-way 1-shot, 5 second-order steps: {over:.0f} MiB over the base, "
        f"wanted below {MEMORY_LIMIT_MIB}: {verdict}"
    )
    return {"row": "memory", "mib_over_base": over, "ok": over < MEMORY_LIMIT_MIB}


def print_peak() -> None:
    """In a process of its own: prints by how many bytes meta-steps raise the peak over what was resident."""
    row = Row("", "maml", "conv4", 1, 5, False, 0, 0)
    learner, episodes = learner_of(row), episodes_of(row)
    base = psutil.Process().memory_info().rss
    for _ in range(3):
        learner.learn(episodes, 0, 10)
    print(int(Device().peak_memory()["host"]) - base)


if __name__ == "__main__":
    sys.exit(main())
