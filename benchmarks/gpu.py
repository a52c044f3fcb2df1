"""A meta-step on one NVIDIA GPU: launches, speed by execution, fraction of its time and of its peak.

    python benchmarks/gpu.py                             every figure, some minutes
    python benchmarks/gpu.py --executions eager,cuda-graph --json figures.json
    python benchmarks/gpu.py --quick                     few repetitions, to see that it works
    python benchmarks/gpu.py --dry-run                   on the CPU, eagerly: shows that every line runs

For each execution in turn, the compiled one last because it takes minutes to compile: kernels and host
launches per meta-step and tasks/s of `conv4` and the sine MLP; the fraction of the step's time in kernels
and of the float32 peak at 256 tasks of `conv4`; and how much faster it is than the loop over tasks
(learn2learn's own where it is installed), in alternating blocks, once both have the same meta-gradient in
float64. float32 is computed in full (TF32 off). Every figure is in the JSON file as soon as it is measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _contest import ROWS, STEPS, contest, difference, episodes_of, has_learn2learn, learner_of
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from metabench import Episodes, Examples
from metabench.device import Device, host
from metabench.settings import make
from metabench.worker.flops import flops_per_step
from metabench.worker.paired import alternate
from metabench_plugins.backends.cuda import Cuda

EXECUTIONS = ("eager", "cuda-graph", "compiled")
NAMES = ("conv-1shot", "sine-maml")
TASKS, LARGE = 32, 256
KERNEL_FRACTION_AIM, PEAK_FRACTION_AIM = 0.8, 0.3
RATIO_AIMS = {
    ("conv-1shot", "eager"): 25,
    ("conv-1shot", "cuda-graph"): 100,
    ("sine-maml", "cuda-graph"): 100,
}
Step = Callable[[], Any]


@dataclass(frozen=True)
class Effort:
    """How often a step is repeated: under the profiler, in a block of a timing, in pairs with the loop."""

    profiled: int = 10
    timed: int = 50
    pairs: int = 15
    peak_side: int = 8192
    large: int = LARGE


QUICK = Effort(profiled=2, timed=5, pairs=3)
DRY = Effort(profiled=1, timed=1, pairs=1, peak_side=256, large=TASKS)


@dataclass(frozen=True)
class Profiled:
    """Of one step: kernels that ran, launches by the host, and seconds in kernels."""

    kernels: float
    launches: float
    kernel_seconds: float


@dataclass
class Figures:
    """What was measured so far, printed at once and kept in a JSON file if there is one."""

    path: Path | None = None
    document: dict[str, Any] = field(default_factory=dict)

    def note(self, name: str, figures: Mapping[str, Any], text: str) -> None:
        """Print `text`; store the figures under `name`."""
        print(text, flush=True)
        self.document[name] = dict(figures)
        if self.path is not None:
            self.path.write_text(json.dumps(self.document, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Print the tables; without a GPU, the reason why there is nothing to measure."""
    arguments = parsed()
    reason = None if arguments.dry_run else make(Cuda).available()
    if reason is not None:
        raise SystemExit(f"benchmarks/gpu.py measures a GPU: {reason}")
    effort = DRY if arguments.dry_run else QUICK if arguments.quick else Effort()
    opened: AbstractContextManager[Device] = nullcontext(Device()) if arguments.dry_run else make(Cuda).open()
    with opened as device:
        figures = Figures(arguments.json)
        environment = host.describe(host.provenance(), host.host(), device.environment())
        gpu = environment.get("gpu", "dry run on the CPU")
        figures.note(
            "environment",
            environment,
            f"{gpu}, driver {environment.get('driver')}, torch {torch.__version__}, float32 without TF32",
        )
        peak = matrix_peak(device, effort.peak_side)
        figures.note("peak", {"flops": peak}, f"float32 product of random numbers: {peak / 1e12:.1f} TFLOP/s")
        for execution in arguments.executions:
            speed(execution, device, effort, figures)
            large(execution, device, effort, figures, peak)
            ratios(execution, device, effort, figures)


def parsed() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, eagerly, once")
    parser.add_argument("--executions", help=f"some of {','.join(EXECUTIONS)}, in this order")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    arguments = parser.parse_args()
    chosen = arguments.executions.split(",") if arguments.executions else list(EXECUTIONS)
    unknown = [name for name in chosen if name not in EXECUTIONS]
    if unknown:
        parser.error(f"--executions must be some of {', '.join(EXECUTIONS)}, got {', '.join(unknown)}")
    arguments.executions = ["eager"] if arguments.dry_run else chosen
    return arguments


def speed(execution: str, device: Device, effort: Effort, figures: Figures) -> None:
    """Print kernels, launches and tasks/s of one execution."""
    for name in NAMES:
        step = step_of(name, execution, device)
        counts = profiled(step, device, effort.profiled)
        seconds = seconds_of(step, device, effort.timed)
        figures.note(
            f"{name} {execution}",
            {"kernels": counts.kernels, "launches": counts.launches, "tasks_per_second": TASKS / seconds},
            f"{ROWS[name].title:44s} {execution:10s} {counts.kernels:7.0f} kernels, "
            f"{counts.launches:6.0f} launches a meta-step, {TASKS / seconds:9.0f} tasks/s",
        )


def large(execution: str, device: Device, effort: Effort, figures: Figures, peak: float) -> None:
    """Print the fraction of the step's time in kernels, and of the float32 peak, at 256 tasks of conv4.

    The profiler slows launches: it times the kernels, and the step is timed without it.
    """
    copies = effort.large // TASKS
    flops = flops_per_step(learner_of(ROWS["conv-1shot"], device), tasks_of("conv-1shot", device, copies))
    step = step_of("conv-1shot", execution, device, copies)
    kernel_seconds = profiled(step, device, effort.profiled).kernel_seconds
    seconds = seconds_of(step, device, effort.timed)
    busy, fraction = kernel_seconds / seconds, (flops or 0.0) / seconds / peak
    figures.note(
        f"conv-1shot {execution} at {effort.large} tasks",
        {"seconds": seconds, "kernel_fraction": busy, "peak_fraction": fraction},
        f"conv4, {effort.large} tasks, {execution:10s} {busy:5.0%} of the time in kernels (aim "
        f"{KERNEL_FRACTION_AIM:.0%}), {fraction:5.0%} of {peak / 1e12:.1f} TFLOP/s "
        f"(aim {PEAK_FRACTION_AIM:.0%})",
    )


def ratios(execution: str, device: Device, effort: Effort, figures: Figures) -> None:
    """Print how many times faster one execution is than the loop over tasks."""
    loop = "learn2learn" if has_learn2learn() else "a plain loop of the same operations"
    for name in NAMES:
        row = ROWS[name]
        difference(row, str(device.torch), execution)
        both = contest(row, device, execution)
        times = alternate(both.our_step, both.loop_step, device.clock, pairs=effort.pairs)
        low, median, high = np.quantile(times.ratios, [0.25, 0.5, 0.75])
        aim = RATIO_AIMS.get((name, execution))
        figures.note(
            f"{name} {execution} against {loop}",
            {"ratio": median, "quartiles": [low, high]},
            f"{row.title:44s} {execution:10s} {median:6.1f}× [{low:.1f}, {high:.1f}] against {loop}"
            + (f", aim {aim}×" if aim else ""),
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
    with profile(activities=activities, acc_events=True) as profiler:
        for _ in range(steps):
            step()
        device.synchronize()
    events = list(profiler.events() or [])
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type == kind and not event.is_user_annotation
    ]
    launches = sum("Launch" in event.name for event in events if event.device_type == DeviceType.CPU)
    return Profiled(len(spans) / steps, launches / steps, busy_seconds(spans) / 1e6 / steps)


def busy_seconds(intervals: list[tuple[float, float]]) -> float:
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


def matrix_peak(device: Device, side: int) -> float:
    """Return the FLOP/s of a large float32 product of random numbers, the best of ten after a second of them.

    Numbers that are all equal flip fewer bits, and the card then runs at higher clocks than any real work.
    """
    a = torch.randn(side, side, device=device.torch)
    started, best = time.perf_counter(), float("inf")
    while time.perf_counter() - started < (1.0 if device.torch.type == "cuda" else 0.0):
        torch.mm(a, a)
        device.synchronize()
    for _ in range(10):
        best = min(best, seconds_of(lambda: torch.mm(a, a), device, 1))
    return 2 * side**3 / best


if __name__ == "__main__":
    main()
