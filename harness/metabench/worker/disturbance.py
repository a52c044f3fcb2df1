"""Measures the condition of the machine before and after a cell, and reports what disturbed its times.

before = measure_machine(device)      # on every rank
…                                     # the cell
after = measure_machine(device)
notes = disturbances(before, after)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from metabench.device.device import Device
from metabench.device.exchange import gather_json

CHANGED = 0.10
"""A reference kernel whose time changes by more than this fraction is reported."""
BUSY_CORES = 0.25
"""Other processes that keep more cores than this busy are reported."""
STOLEN_CORES = 0.05
"""CPU steal of more cores than this is reported."""
WARM_SECONDS = 0.3
"""An idle GPU raises its clocks within this time."""
AGREEMENT = 0.03
"""The reference kernel is timed until two readings differ by no more than this fraction."""
ROUNDS = 6
"""The most readings, `PAUSE_SECONDS` apart."""
PAUSE_SECONDS = 0.05
WARMUP_REPEATS = 3
"""Runs of the reference kernel before a reading: they start threads and fill caches."""
REFERENCE_KERNELS = {"machine": "reference_seconds", "device": "device_reference_seconds"}


def measure_machine(device: Device) -> dict[str, Any]:
    """Measure the condition of all ranks together, with "reference_seconds": the reference kernel's time.

    A device other than the host's own processor runs one too: "device_reference_seconds". Its condition is
    read right after, since an idle device has other clocks. Takes a tenth of a second, half a second on a
    GPU; every rank calls it, outside every timed part.
    """
    kernels = {"reference_seconds": reference_seconds()}
    if device.torch.type != "cpu":
        kernels["device_reference_seconds"] = device_reference_seconds(device)
    return worst_of_ranks(gather_json(device, device.condition() | kernels))


def worst_of_ranks(conditions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the least favourable value of each figure: the slowest clock, the largest load, every reason."""
    worst: dict[str, Any] = {}
    for name in {name: None for condition in conditions for name in condition}:
        values = [condition[name] for condition in conditions if name in condition]
        if isinstance(values[0], list):
            worst[name] = sorted({reason for reasons in values for reason in reasons})
        else:
            worst[name] = min(values) if name.endswith("_mhz") else max(values)
    return worst


def reference_seconds(repeats: int = 15) -> float:
    """Seconds of a fixed piece of work on the CPU: two matrix products and a pass through memory.

    It runs on as many threads as torch has, so only readings of equal thread counts compare.
    """
    return _undisturbed_seconds(_reference_kernel(torch.device("cpu"), 384), time.perf_counter, repeats)


def device_reference_seconds(device: Device, size: int = 2048, repeats: int = 15) -> float:
    """Seconds of the same work on the device, larger, once it has left its idle clocks.

    The memory that it takes is freed, and counts in no later peak.
    """
    kernel = _reference_kernel(device.torch, size)
    started = device.clock()
    while device.clock() - started < WARM_SECONDS:
        kernel()
    seconds = _undisturbed_seconds(kernel, device.clock, repeats)
    del kernel
    device.forget_peak_memory()
    return seconds


def _reference_kernel(torch_device: torch.device, size: int) -> Callable[[], None]:
    left = torch.linspace(-1, 1, size * size, dtype=torch.float32, device=torch_device).view(size, size)
    right = left.t().contiguous()
    memory = torch.zeros(1 << 20, device=torch_device)

    def kernel() -> None:
        torch.mm(torch.mm(left, right), left)
        memory.add_(1.0)

    return kernel


def _undisturbed_seconds(kernel: Callable[[], None], clock: Callable[[], float], repeats: int) -> float:
    """The smallest median, once two of them agree: a burst of noise of some milliseconds passes."""
    medians = [_median_seconds(kernel, clock, repeats)]
    while len(medians) < ROUNDS:
        time.sleep(PAUSE_SECONDS)
        medians.append(_median_seconds(kernel, clock, repeats))
        first, second, *_ = sorted(medians)
        if second <= first * (1 + AGREEMENT):
            break
    return min(medians)


def _median_seconds(kernel: Callable[[], None], clock: Callable[[], float], repeats: int) -> float:
    readings = []
    for _ in range(WARMUP_REPEATS + repeats):
        start = clock()
        kernel()
        readings.append(clock() - start)
    return statistics.median(readings[WARMUP_REPEATS:])


def disturbances(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a line for each sign that the machine was shared, or changed its speed, during the cell."""
    return (*_changes_of_speed(before, after), *_other_load(after), *_throttling(before, after))


def _changes_of_speed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for what, name in REFERENCE_KERNELS.items():
        first, last = before.get(name), after.get(name)
        if not first or not last:
            continue
        change = max(first, last) / min(first, last) - 1
        if change > CHANGED:
            verb = "slowed" if last > first else "sped up"
            yield (
                f"the {what} {verb} by {change:.0%} during the cell "
                f"(reference kernel {first * 1e3:.2f} ms before, {last * 1e3:.2f} ms after)"
            )


def _other_load(after: Mapping[str, Any]) -> Iterator[str]:
    if after.get("others_cores", 0.0) > BUSY_CORES:
        yield f"other processes kept {after['others_cores']:.1f} cores busy during the cell"
    if after.get("stolen_cores", 0.0) > STOLEN_CORES:
        yield f"CPU steal took {after['stolen_cores']:.2f} cores during the cell"
    if after.get("other_processes", 0):
        yield f"{after['other_processes']} other processes computed on the device after the cell"


def _throttling(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for reason in sorted({*before.get("throttled", ()), *after.get("throttled", ())}):
        yield f"clocks throttled: {reason}"
