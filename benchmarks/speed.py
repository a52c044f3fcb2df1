"""How fast metabench's learners are beside the libraries that people use today, on this machine.

    python benchmarks/speed.py                        every row with every rival, 2 threads
    python benchmarks/speed.py --quick --threads 1    seconds a row, to see that it works
    python benchmarks/speed.py --rows sine-maml,conv-1shot --rivals "JAX sharded scan"

`benchmarks/evaluation.py` times the scoring of tasks.

A row is one whole meta-step (meta-gradient and update) of ours, of learn2learn's loop and of each rival that
is installed (the extra `rivals`), on the same network, weights, tasks and threads, timed in blocks of one
process that take turns: the median of the rounds' ratios with their quartiles. Before the clock runs, every
meta-gradient is compared with ours in float64; float32 is timed. PyTorch's own form of MAML with torch.func
has another meta-gradient where a network has batch norm: it is timed, and its line says so.

Exit status 1 where a row is below what is wanted of it against the loop (`Row.at_least`), or against the
fastest JAX program (`Row.at_least_jax`; those were set on an AMD processor of the Zen 5 generation with
AVX-512, and mean another fraction of the peak on another one, which the line gives).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import _jax_programs
import psutil
import torch
from _contest import (
    ROWS,
    SAME_WORK,
    STEPS,
    Row,
    difference,
    episodes_of,
    has_learn2learn,
    has_loop,
    learner_of,
    module_of,
)
from _peak import peak
from _rivals import RIVALS, Loop, installed, largest_difference, rivals_of

from metabench.device import Device
from metabench.device.host import processor
from metabench.device.memory import keep_freed_memory
from metabench.worker.flops import flops_per_step
from metabench.worker.paired import RoundTimes, take_turns

OURS, LOOP = "metabench", "loop"
MEMORY_LIMIT_MIB = 250
MEMORY_ROW = Row(
    "32 tasks 5-way 1-shot, 5 second-order steps", "maml", "conv4", {"inner_rate": 0.1, "steps": 5}, 0, 0
)


def main() -> int:
    """Print the lines of each row, and the JSON of all of them with --json; return the exit status."""
    parser = _parser()
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    _jax_programs.prepare(options.threads)
    keep_freed_memory()
    if options.print_peak:
        print_peak()
        return 0
    names, rivals = options.rows.split(","), [name for name in options.rivals.split(",") if name]
    for given, known, what in ((names, ROWS, "row"), (rivals, RIVALS, "rival")):
        unknown = [name for name in given if name not in known]
        if unknown:
            parser.error(f"no {what} {unknown[0]!r}; there are: {', '.join(known)}")
    versions = {"torch": torch.__version__, **installed(rivals)}
    print(
        f"{processor()}, {options.threads} threads, {'CPU' if options.cpu_time else 'wall'} time, "
        + "loops: "
        + ("learn2learn" if has_learn2learn() else "plain ones of the same operations")
        + "".join(f", {package} {version}" for package, version in versions.items())
    )
    rows = [name for name in names if _has_loop(name)]
    clock = time.process_time if options.cpu_time else Device().clock
    figures = [measure(name, rivals, clock, options.quick, options.execution) for name in rows]
    if options.memory:
        figures.append(measure_memory(options.threads))
    if options.json:
        print(json.dumps(figures))
    return 0 if all(row["ok"] for row in figures) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument(
        "--rivals", default=",".join(RIVALS), help=f"besides the loop, of {', '.join(RIVALS)}"
    )
    parser.add_argument("--quick", action="store_true", help="a few short blocks")
    parser.add_argument(
        "--cpu-time", action="store_true",
        help="time by the seconds that this process computes: for one thread on a shared machine",
    )  # fmt: skip
    parser.add_argument("--execution", default="eager", help="of our meta-step: eager or compiled")
    parser.add_argument("--memory", action="store_true", help="check the peak memory as well")
    parser.add_argument("--json", action="store_true", help="end with all figures as one JSON line")
    parser.add_argument("--print-peak", action="store_true", help=argparse.SUPPRESS)
    return parser


def _has_loop(name: str) -> bool:
    if has_loop(ROWS[name]):
        return True
    print(f"{ROWS[name].title:44s} left out: its loop needs learn2learn, which is not installed")
    return False


def measure(
    name: str,
    rivals: Sequence[str],
    clock: Callable[[], float],
    quick: bool = False,
    execution: str = "eager",
) -> dict[str, Any]:
    """Time a row in blocks that take turns; print and return its figures. clock: seconds."""
    row = ROWS[name]
    rounds, block_seconds = (3, 0.1) if quick else (11, 0.25)
    apart = {LOOP: difference(row, execution=execution)} | differences(row, rivals)
    sides, first_seconds = first_steps(row, rivals, execution)
    peaks: list[dict[str, float]] = []
    times = take_turns(sides, clock, rounds, block_seconds, lambda: peaks.append(peak(clock)))
    figures = {
        "row": name, "execution": execution, "rounds": rounds,
        "flops": flops_per_step(learner_of(row), episodes_of(row)) or 0.0,
        "peak": {way: statistics.median(sample[way] for sample in peaks) for way in peaks[0]},
        "seconds": times.median(OURS), "first_seconds": first_seconds[OURS],
        "rivals": {
            rival: _figures_of_rival(times, rival, first_seconds[rival], apart[rival])
            for rival in sides if rival != OURS
        },
    }  # fmt: skip
    figures |= verdict(row, figures["rivals"])
    print("\n".join(lines(row, figures)), flush=True)
    return figures


def differences(row: Row, rivals: Sequence[str]) -> dict[str, float]:
    """Return how far each rival's meta-gradient is from ours in float64, over the largest entry."""
    device = Device("cpu", torch.float64)
    ours = Loop(learner_of(row, device), module_of(row, device), episodes_of(row, device)).gradients()
    builders = rivals_of(row, rivals)
    return {
        n: largest_difference(build(device).gradients(), ours) for n, build in builders.items() if n != LOOP
    }


def first_steps(row: Row, rivals: Sequence[str], execution: str) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the step of each side by name, and how many seconds its first one took: it compiles."""
    device = Device()
    builders: dict[str, Any] = {
        OURS: lambda device: Loop(
            learner_of(row, device, execution), module_of(row, device), episodes_of(row, device)
        )
    }
    steps, seconds = {}, {}
    for name, build in (builders | rivals_of(row, rivals)).items():
        side = build(device)
        started = time.perf_counter()
        side.step()
        steps[name], seconds[name] = side.step, time.perf_counter() - started
    return steps, seconds


def _figures_of_rival(times: RoundTimes, name: str, first_seconds: float, apart: float) -> dict[str, Any]:
    low, ratio, high = times.ratios(name, OURS)
    return {
        "ratio": ratio, "quartiles": [low, high], "seconds": times.median(name),
        "first_seconds": first_seconds, "gradients_apart": apart, "same_work": apart <= SAME_WORK,
    }  # fmt: skip


def verdict(row: Row, rivals: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the ratio to the loop and to the fastest JAX program, and whether both are what is wanted."""
    loop = rivals[LOOP]
    of_jax = {n: rival["ratio"] for n, rival in rivals.items() if n.startswith("JAX") and rival["same_work"]}
    fastest = min(of_jax, key=lambda name: of_jax[name], default=None)
    jax_ratio = None if fastest is None else of_jax[fastest]
    return {
        "ratio": loop["ratio"], "gradients_apart": loop["gradients_apart"],
        "jax": fastest, "jax_ratio": jax_ratio,
        "ok": loop["ratio"] >= row.at_least and (jax_ratio is None or jax_ratio >= row.at_least_jax),
    }  # fmt: skip


def lines(row: Row, figures: dict[str, Any]) -> list[str]:
    """Return a row of the table as text: ours, then each rival."""
    seconds, flops = figures["seconds"], figures["flops"]
    way = max(figures["peak"], key=lambda name: figures["peak"][name])
    most = figures["peak"][way]
    text = [
        f"{row.title}: {'ok' if figures['ok'] else 'BELOW'}, {1e3 * seconds:.2f} ms, "
        f"{row.tasks / seconds:.0f} tasks/s, first step {figures['first_seconds']:.1f} s, "
        f"{flops / seconds / 1e9:.0f} GFLOP/s, {flops / seconds / most:.0%} of the peak of "
        f"{most / 1e9:.0f} GFLOP/s ({way}); {figures['rounds']} rounds"
    ]
    text += [_rival_line(name, rival, row) for name, rival in figures["rivals"].items()]
    wanted = f"    wanted {row.at_least:g}× of the loop (aim {row.aim:g}×)"
    if row.at_least_jax and figures["jax"]:
        share = flops * row.at_least_jax / figures["rivals"][figures["jax"]]["seconds"] / most
        wanted += (
            f", {row.at_least_jax:g}× of the fastest JAX, which is {share:.0%} of the peak here: "
            f"{figures['jax_ratio']:.2f}×"
        )
    return [*text, wanted]


def _rival_line(name: str, rival: dict[str, Any], row: Row) -> str:
    low, high = rival["quartiles"]
    other = "" if rival["same_work"] else ": ANOTHER GRADIENT"
    return (
        f"    {rival['ratio']:6.2f}× [{low:.2f}, {high:.2f}] {name:20s} {1e3 * rival['seconds']:9.2f} ms, "
        f"{row.tasks / rival['seconds']:.0f} tasks/s, first step {rival['first_seconds']:.1f} s, "
        f"gradients {rival['gradients_apart']:.0e} apart{other}"
    )


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
