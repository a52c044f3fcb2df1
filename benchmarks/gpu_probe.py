"""What one NVIDIA GPU allows: its roofs, each convolution of a meta-step by each way, the step's kernels.

    python benchmarks/gpu_probe.py --json probe.json
    python benchmarks/gpu_probe.py --dry-run            on the CPU, at small sizes: shows that every line runs

It decides which kernels are worth writing: grouped convolutions by cuDNN, or patches and batched products,
in each number format, at each layer. Every figure is in the JSON file as soon as it is measured, and a part
that fails is named there and leaves the others to run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gpu
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from metabench.device import Device
from metabench.settings import make
from metabench_plugins.backends.cuda import Cuda

FORMATS = ("ieee", "tf32", "bf16")
LAYERS = ((1, 28), (64, 14), (64, 7), (64, 4))
"""Channels and side of the input of Conv4's layers: 64 filters of 3 × 3, stride 2, padding 1."""
EXAMPLES, FILTERS = 5, 64
OPTIONS = ((2, 2), (1, 1), (1, 1), False, (0, 0))
Call = Callable[[], object]


@dataclass
class Probe:
    """The device, sizes, and what was measured so far."""

    device: Device
    on_gpu: bool
    path: Path | None
    document: dict[str, Any] = field(default_factory=dict)

    def note(self, name: str, measure: Callable[[], Any]) -> None:
        """Store what `measure` returns, or how it failed."""
        try:
            self.document[name] = measure()
        except Exception as error:  # a card without a format, or without the memory: the rest is measured
            traceback.print_exc()
            self.document[name] = f"{type(error).__name__}: {error}"
        if self.path is not None:
            self.path.write_text(json.dumps(self.document, indent=1) + "\n", encoding="utf-8")

    def random(self, *shape: int, number_format: str = "ieee") -> Tensor:
        """Return random numbers: constants flip fewer bits, and the card then runs at higher clocks."""
        dtype = torch.bfloat16 if number_format == "bf16" else torch.float32
        return torch.randn(*shape, device=self.device.torch, dtype=dtype)

    def seconds(self, call: Call, inner: int = 20) -> float:
        """Return seconds of one call: the median of seven replays of a graph of `inner` calls."""
        if not self.on_gpu:
            return gpu.seconds_of(call, self.device, 1)
        graph = captured(call, inner)
        times = []
        for _ in range(7):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in "ab")
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3 / inner)
        return statistics.median(times)


def main() -> None:
    """Measure roofs, kernels and convolutions; without a GPU, say why there is nothing to measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, at small sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    arguments = parser.parse_args()
    reason = None if arguments.dry_run else make(Cuda).available()
    if reason is not None:
        raise SystemExit(f"benchmarks/gpu_probe.py measures a GPU: {reason}")
    opened: AbstractContextManager[Device] = nullcontext(Device()) if arguments.dry_run else make(Cuda).open()
    with opened as device:
        probe = Probe(device, not arguments.dry_run, arguments.json)
        versions = {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version()}
        probe.note("versions", lambda: versions)
        probe.note("roofs", lambda: roofs(probe))
        for tasks in (32, 256) if probe.on_gpu else (32,):
            probe.note(f"kernels at {tasks} tasks", lambda tasks=tasks: kernels(probe, tasks))
        for tasks in (32, 256) if probe.on_gpu else (2,):
            for channels, side in LAYERS:
                name = f"convolution of {channels} × {side} × {side}, {tasks} tasks"
                probe.note(name, lambda layer=(tasks, channels, side): dict(convolutions(probe, *layer)))


def captured(call: Call, inner: int) -> torch.cuda.CUDAGraph:
    """Return a CUDA graph of `inner` calls that has run once."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(inner):
            call()
    graph.replay()
    return graph


def set_products(number_format: str) -> None:
    """Compute float32 products in full, or with the 10 bits of TF32; the switches of bf16 change nothing."""
    tf32 = number_format == "tf32"
    torch.backends.cuda.matmul.fp32_precision = "tf32" if tf32 else "ieee"
    torch.backends.cudnn.conv.fp32_precision = "tf32" if tf32 else "ieee"


def roofs(probe: Probe) -> dict[str, float]:
    """Return FLOP/s of a large product by number format, bytes/s of a copy, seconds of a small kernel."""
    side = 8192 if probe.on_gpu else 64
    figures = {}
    for number_format in FORMATS:
        set_products(number_format)
        a, b = (probe.random(side, side, number_format=number_format) for _ in "ab")
        figures[f"{number_format} FLOP/s"] = 2 * side**3 / probe.seconds(lambda a=a, b=b: torch.mm(a, b), 2)
    set_products("ieee")
    if probe.on_gpu:
        from metabench.engine.triton.products import split_product

        a, b = (probe.random(1, side, side) for _ in "ab")
        figures["tf32x3 FLOP/s"] = 2 * side**3 / probe.seconds(lambda: split_product(a, b), 2)
    x = probe.random(side, side)
    y, small = torch.empty_like(x), torch.zeros(64, device=x.device)
    figures["copied bytes/s"] = 2 * x.nbytes / probe.seconds(lambda: y.copy_(x), 10)
    figures["smallest kernel, seconds"] = probe.seconds(lambda: small.add_(1.0), 500)
    print(", ".join(f"{name} {figure:.3g}" for name, figure in figures.items()), flush=True)
    return figures


def kernels(probe: Probe, tasks: int) -> dict[str, Any]:
    """Return the kernels of one meta-step by their microseconds, and the step's without the profiler."""
    execution = "cuda-graph" if probe.on_gpu else "eager"
    step = gpu.step_of("conv-1shot", execution, probe.device, tasks // gpu.TASKS)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if probe.on_gpu else [])]
    steps = 5 if probe.on_gpu else 1
    with profile(activities=activities, acc_events=True) as profiler:
        for _ in range(steps):
            step()
        probe.device.synchronize()
    counts: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for event in profiler.events() or []:
        if (event.device_type.name == "CUDA") == probe.on_gpu and not event.is_user_annotation:
            counts[event.name[:110]][0] += 1 / steps
            counts[event.name[:110]][1] += event.time_range.elapsed_us() / steps
    rows = sorted(((name, *figures) for name, figures in counts.items()), key=lambda row: -row[2])
    step_us = gpu.seconds_of(step, probe.device, 20 if probe.on_gpu else 1) * 1e6
    kernel_us = sum(row[2] for row in rows)
    number = sum(row[1] for row in rows)
    print(f"{tasks} tasks: {number:.0f} kernels, {kernel_us:.0f} µs in kernels, {step_us:.0f} µs a step")
    for name, count, microseconds in rows[:14]:
        print(f"  {microseconds:9.1f} µs {count:6.1f} × {name}", flush=True)
    return {"kernel_us": kernel_us, "step_us": step_us, "kernels": [list(row) for row in rows[:40]]}


def convolutions(
    probe: Probe, tasks: int, channels: int, side: int
) -> Iterator[tuple[str, dict[str, float] | str]]:
    """Yield each way to compute one layer, with its microseconds and FLOP/s, or how it failed."""
    out = (side + 1) // 2
    flops = 2 * EXAMPLES * tasks * out * out * FILTERS * channels * 9
    for number_format in FORMATS:
        set_products(number_format)
        for benchmark in (False, True) if probe.on_gpu else (False,):
            torch.backends.cudnn.benchmark = benchmark
            for name, call in ways(probe, number_format, tasks, channels, side).items():
                if benchmark and "grouped" not in name:
                    continue
                whole = f"{number_format} {name}{', cuDNN benchmark' if benchmark else ''}"
                try:
                    seconds = probe.seconds(call)
                    yield whole, {"us": seconds * 1e6, "flops_per_second": flops / seconds}
                except RuntimeError as error:  # no algorithm for it, or too little memory
                    yield whole, str(error)[:200]
    torch.backends.cudnn.benchmark = False
    set_products("ieee")


def ways(probe: Probe, number_format: str, tasks: int, channels: int, side: int) -> Mapping[str, Call]:
    """Return the ways to compute a layer's output and its gradients, by name.

    grouped: each task's own kernels, one group a task; dense: kernels that tasks share; bmm: patches of the
    images times the kernels, one batched product, once `patches` has laid them out.
    """
    out = (side + 1) // 2
    x = probe.random(EXAMPLES, tasks * channels, side, side, number_format=number_format)
    w = probe.random(tasks * FILTERS, channels, 3, 3, number_format=number_format)
    gy = probe.random(EXAMPLES, tasks * FILTERS, out, out, number_format=number_format)
    dense_x, dense_gy = x.view(-1, channels, side, side), gy.view(-1, FILTERS, out, out)
    dense_w = w[:FILTERS].contiguous()

    def patches() -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1)).view(EXAMPLES, tasks, channels, side + 2, side + 2)
        windows = padded.unfold(3, 3, 2).unfold(4, 3, 2)  # [n, T, C, out, out, 3, 3]
        return windows.permute(1, 2, 5, 6, 0, 3, 4).reshape(tasks, channels * 9, -1)

    def gradient(mask: list[bool], groups: int, *operands: Tensor) -> Call:
        return lambda: torch.ops.aten.convolution_backward(*operands, None, *OPTIONS, groups, mask)

    columns = patches()
    rows_w = w.view(tasks, FILTERS, -1)
    rows_gy = gy.view(EXAMPLES, tasks, FILTERS, -1).permute(1, 2, 0, 3).reshape(tasks, FILTERS, -1)
    convolution = torch.ops.aten.convolution
    return {
        "output grouped": lambda: convolution(x, w, None, *OPTIONS, tasks),
        "gradient of input grouped": gradient([True, False, False], tasks, gy, x, w),
        "gradient of kernels grouped": gradient([False, True, False], tasks, gy, x, w),
        "output dense": lambda: convolution(dense_x, dense_w, None, *OPTIONS, 1),
        "gradient of input dense": gradient([True, False, False], 1, dense_gy, dense_x, dense_w),
        "patches": patches,
        "output bmm": lambda: torch.bmm(rows_w, columns),
        "gradient of patches bmm": lambda: torch.bmm(rows_w.mT, rows_gy),
        "gradient of kernels bmm": lambda: torch.bmm(rows_gy, columns.mT),
    }


if __name__ == "__main__":
    main()
