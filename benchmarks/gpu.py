"""A meta-step on one NVIDIA GPU: launches, speed by execution, fraction of its time and of its peak.

    python benchmarks/gpu.py            every figure, some minutes
    python benchmarks/gpu.py --quick    few repetitions, to see that it works

Three tables: kernels and host launches per meta-step and tasks/s of `conv4` and the sine MLP, eager, in a
CUDA graph and compiled; the fraction of the step's time in kernels and of the float32 peak at 256 tasks of
`conv4`; and how much faster each is than the loop over tasks (learn2learn's own where it is installed), in
alternating blocks, once both have the same meta-gradient in float64. float32 is computed in full (TF32 off).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _contest import ROWS, STEPS, contest, difference, episodes_of, has_learn2learn, learner_of
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from metabench import Episodes, Examples
from metabench.device import Device
from metabench.settings import make
from metabench.worker.flops import flops_per_step
from metabench.worker.paired import alternate
from metabench_plugins.backends.cuda import Cuda

EXECUTIONS = ("eager", "cuda-graph", "compiled")
TASKS, LARGE = 32, 256
KERNEL_FRACTION_AIM, PEAK_FRACTION_AIM = 0.8, 0.3
RATIO_AIMS = {("conv-1shot", "eager"): 25, ("conv-1shot", "cuda-graph"): 70, ("sine-maml", "cuda-graph"): 75}
Step = Callable[[], Any]


@dataclass(frozen=True)
class Profiled:
    """Of one step: kernels that ran, launches by the host, and the fraction of its seconds in kernels."""

    kernels: float
    launches: float
    seconds: float
    busy: float


def main() -> None:
    """Print the tables; without a GPU, the reason why there is nothing to measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    quick = parser.parse_args().quick
    reason = make(Cuda).available()
    if reason is not None:
        raise SystemExit(f"benchmarks/gpu.py measures a GPU: {reason}")
    with make(Cuda).open() as device:
        environment = device.environment()
        print(
            f"{environment['gpu']}, driver {environment['driver']}, torch {torch.__version__}, "
            "float32 without TF32"
        )
        executions(device, quick)
        large(device, quick)
        ratios(device, quick)


def executions(device: Device, quick: bool) -> None:
    """Print kernels, launches and tasks/s of each execution."""
    for name in ("conv-1shot", "sine-maml"):
        for execution in EXECUTIONS:
            step = step_of(name, execution, device)
            counts = profiled(step, device, 2 if quick else 10)
            seconds = seconds_of(step, device, 5 if quick else 50)
            print(
                f"{ROWS[name].title:44s} {execution:10s} {counts.kernels:7.0f} kernels, "
                f"{counts.launches:6.0f} launches a meta-step, {TASKS / seconds:9.0f} tasks/s",
                flush=True,
            )


def large(device: Device, quick: bool) -> None:
    """Print the fraction of the step's time in kernels, and of the float32 peak, at 256 tasks of conv4."""
    peak = matrix_peak(device)
    copies = LARGE // TASKS
    flops = flops_per_step(learner_of(ROWS["conv-1shot"], device), tasks_of("conv-1shot", device, copies))
    for execution in EXECUTIONS:
        step = step_of("conv-1shot", execution, device, copies)
        busy = profiled(step, device, 2 if quick else 10).busy
        fraction = (flops or 0.0) / seconds_of(step, device, 5 if quick else 50) / peak
        print(
            f"conv4, {LARGE} tasks, {execution:10s} {busy:5.0%} of the time in kernels (aim "
            f"{KERNEL_FRACTION_AIM:.0%}), {fraction:5.0%} of {peak / 1e12:.1f} TFLOP/s "
            f"(aim {PEAK_FRACTION_AIM:.0%})",
            flush=True,
        )


def ratios(device: Device, quick: bool) -> None:
    """Print how many times faster each execution is than the loop over tasks."""
    loop = "learn2learn" if has_learn2learn() else "a plain loop of the same operations"
    for name in ("conv-1shot", "sine-maml"):
        row = ROWS[name]
        for execution in EXECUTIONS:
            difference(row, str(device.torch), execution)
            both = contest(row, device, execution)
            times = alternate(both.our_step, both.loop_step, device.clock, pairs=3 if quick else 15)
            low, median, high = np.quantile(times.ratios, [0.25, 0.5, 0.75])
            aim = RATIO_AIMS.get((name, execution))
            print(
                f"{row.title:44s} {execution:10s} {median:6.1f}× [{low:.1f}, {high:.1f}] against {loop}"
                + (f", aim {aim}×" if aim else ""),
                flush=True,
            )


def tasks_of(name: str, device: Device, copies: int = 1) -> Episodes:
    """Return the row's tasks on the device, `copies` times over."""

    def repeated(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([tensor] * copies)

    tasks = episodes_of(ROWS[name], device)
    support, query = (Examples(repeated(part.x), repeated(part.y)) for part in (tasks.support, tasks.query))
    return Episodes(support, query, repeated(tasks.classes), repeated(tasks.index))


def step_of(name: str, execution: str, device: Device, copies: int = 1) -> Step:
    """Return one meta-step on the device, already compiled or captured."""
    learner, episodes = learner_of(ROWS[name], device, execution), tasks_of(name, device, copies)

    def step() -> Any:
        learner.learn(episodes, 0, STEPS)
        return learner.update(0, STEPS)

    for _ in range(3):
        step()
    return step


def profiled(step: Step, device: Device, steps: int) -> Profiled:
    """Return what torch's profiler counts in so many steps; on the CPU, operations count as kernels."""
    on_gpu = device.torch.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            step()
        device.synchronize()
    events = list(profiler.events() or [])
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    ranges = [event.time_range for event in events if event.device_type == kind]
    kernels = [(span.start, span.end) for span in ranges]
    launches = sum("Launch" in event.name for event in events if event.device_type == DeviceType.CPU)
    seconds = (max(end for _, end in kernels) - min(start for start, _ in kernels)) / 1e6
    busy = busy_seconds(kernels) / 1e6 / seconds
    return Profiled(len(kernels) / steps, launches / steps, seconds / steps, busy)


def busy_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """Return for how long at least one of these intervals (start, end) lasted, in their unit."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def seconds_of(step: Step, device: Device, repeats: int) -> float:
    """Return the median seconds of one step over five blocks."""
    blocks = []
    for _ in range(5):
        started = device.clock()
        for _ in range(repeats):
            step()
        blocks.append((device.clock() - started) / repeats)
    return statistics.median(blocks)


def matrix_peak(device: Device, side: int = 8192) -> float:
    """Return the FLOP/s of a large float32 product, the best of ten after the clocks have risen."""
    a = torch.ones(side, side, device=device.torch)
    started, best = time.perf_counter(), float("inf")
    while time.perf_counter() - started < 1.0:
        torch.mm(a, a)
        device.synchronize()
    for _ in range(10):
        best = min(best, seconds_of(lambda: torch.mm(a, a), device, 1))
    return 2 * side**3 / best


if __name__ == "__main__":
    main()
