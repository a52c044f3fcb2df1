"""What one NVIDIA GPU makes of a meta-step: launches, speed by execution, share of its time and of its peak.

    python benchmarks/gpu.py            every figure, some minutes
    python benchmarks/gpu.py --quick    few repetitions, to see that it works

Three tables: kernels and host launches per meta-step and tasks/s of `conv4` and the sine MLP, eager, in a
CUDA graph and compiled; the share of the step's time that kernels run and the share of the float32 peak at
256 tasks of `conv4`; and how much faster each is than the loop over tasks (learn2learn's own where it is
installed), in alternating blocks, once both have the same meta-gradient in float64. float32 is computed in
full (TF32 off).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from _alternate import alternate
from _loops import has_learn2learn, require_same_work, sides
from _rows import ROWS, episodes_of, learner_of
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from metabench import Episodes, Examples
from metabench.device import Device
from metabench.settings import make
from metabench.worker.flops import flops_per_step
from metabench_plugins.backends.cuda import Cuda

EXECUTIONS = ("eager", "cuda-graph", "compiled")
TASKS, LARGE = 32, 256
KERNEL_SHARE_AIM, PEAK_SHARE_AIM = 0.8, 0.3
RATIO_AIMS = {("conv-1shot", "eager"): 25, ("conv-1shot", "cuda-graph"): 70, ("sine-maml", "cuda-graph"): 75}
Step = Callable[[], Any]


@dataclass(frozen=True)
class Profiled:
    """Of one step: kernels that ran, launches by the host, and the share of its seconds that kernels ran."""

    kernels: float
    launches: float
    seconds: float
    busy: float


def main() -> None:
    """Prints the tables; without a GPU, the reason why there is nothing to measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    quick = parser.parse_args().quick
    reason = make(Cuda).available()
    if reason is not None:
        raise SystemExit(f"benchmarks/gpu.py measures a GPU: {reason}")
    with make(Cuda).open() as device:
        facts = device.environment()
        print(f"{facts['gpu']}, driver {facts['driver']}, torch {torch.__version__}, float32 without TF32")
        executions(device, quick)
        large(device, quick)
        ratios(device, quick)


def executions(device: Device, quick: bool) -> None:
    """Kernels, launches and tasks/s of each execution."""
    for name in ("conv-1shot", "sine-maml"):
        for execution in EXECUTIONS:
            step = step_of(name, execution, device)
            found = profiled(step, device, 2 if quick else 10)
            seconds = seconds_of(step, device, 5 if quick else 50)
            print(
                f"{ROWS[name].title:44s} {execution:10s} {found.kernels:7.0f} kernels, "
                f"{found.launches:6.0f} launches a meta-step, {TASKS / seconds:9.0f} tasks/s",
                flush=True,
            )


def large(device: Device, quick: bool) -> None:
    """The share of the step's time in kernels, and of the float32 peak, at 256 tasks of conv4."""
    peak = matrix_peak(device)
    copies = LARGE // TASKS
    flops = flops_per_step(
        learner_of(ROWS["conv-1shot"], "eager", device), tasks_of("conv-1shot", device, copies)
    )
    for execution in EXECUTIONS:
        step = step_of("conv-1shot", execution, device, copies)
        found = profiled(step, device, 2 if quick else 10)
        share = (flops or 0.0) / seconds_of(step, device, 5 if quick else 50) / peak
        print(
            f"conv4, {LARGE} tasks, {execution:10s} {found.busy:5.0%} of the time in kernels (aim "
            f"{KERNEL_SHARE_AIM:.0%}), {share:5.0%} of {peak / 1e12:.1f} TFLOP/s (aim {PEAK_SHARE_AIM:.0%})",
            flush=True,
        )


def ratios(device: Device, quick: bool) -> None:
    """How many times faster than the loop over tasks."""
    loop = "learn2learn" if has_learn2learn() else "a plain loop of the same operations"
    for name in ("conv-1shot", "sine-maml"):
        row = ROWS[name]
        for execution in EXECUTIONS:
            require_same_work(row, execution, str(device.torch))
            both = sides(row, execution, device)
            timing = alternate(
                both.ours,
                both.loop,
                blocks=3 if quick else 15,
                synchronize=device.synchronize,
            )
            low, high = timing.spread
            aim = RATIO_AIMS.get((name, execution))
            print(
                f"{row.title:44s} {execution:10s} {timing.ratio:6.1f}× [{low:.1f}, {high:.1f}] against {loop}"
                + (f", aim {aim}×" if aim else ""),
                flush=True,
            )


def tasks_of(name: str, device: Device, copies: int = 1) -> Episodes:
    """The row's tasks on the device, so many times over."""

    def repeated(one: torch.Tensor) -> torch.Tensor:
        return torch.cat([one] * copies)

    given = episodes_of(ROWS[name], device)
    support, query = (Examples(repeated(some.x), repeated(some.y)) for some in (given.support, given.query))
    return Episodes(support, query, repeated(given.classes), repeated(given.index))


def step_of(name: str, execution: str, device: Device, copies: int = 1) -> Step:
    """One meta-step on the device, already compiled or captured."""
    learner, episodes = learner_of(ROWS[name], execution, device), tasks_of(name, device, copies)

    def step() -> Any:
        learner.learn(episodes, 0, 10)
        return learner.update(0, 10)

    for _ in range(3):
        step()
    return step


def profiled(step: Step, device: Device, steps: int) -> Profiled:
    """What torch's profiler sees of so many steps; on the CPU, its operations stand for kernels."""
    on_gpu = device.torch.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as seen:
        for _ in range(steps):
            step()
        device.synchronize()
    events = list(seen.events() or [])
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    ran = [(one.time_range.start, one.time_range.end) for one in events if one.device_type == kind]
    launches = sum("Launch" in one.name for one in events if one.device_type == DeviceType.CPU)
    whole = (max(end for _, end in ran) - min(start for start, _ in ran)) / 1e6
    return Profiled(len(ran) / steps, launches / steps, whole / steps, busy_seconds(ran) / 1e6 / whole)


def busy_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """How long at least one of these (start, end) lasted, in their unit."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def seconds_of(step: Step, device: Device, repeats: int) -> float:
    """Median seconds of one step over five blocks."""
    blocks = []
    for _ in range(5):
        begun = device.clock()
        for _ in range(repeats):
            step()
        blocks.append((device.clock() - begun) / repeats)
    return statistics.median(blocks)


def matrix_peak(device: Device, side: int = 8192) -> float:
    """FLOP/s of a large product of float32 matrices, the best of ten after the clocks have risen."""
    a = torch.ones(side, side, device=device.torch)
    begun, best = time.perf_counter(), float("inf")
    while time.perf_counter() - begun < 1.0:
        torch.mm(a, a)
        device.synchronize()
    for _ in range(10):
        best = min(best, seconds_of(lambda: torch.mm(a, a), device, 1))
    return 2 * side**3 / best


if __name__ == "__main__":
    main()
