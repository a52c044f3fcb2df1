"""Looks at the machine before and after a cell, and says what a reader must know of the difference.

before = look(device)      # on every rank
…                          # the cell
after = look(device)
notes = marks(before, after)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from metabench.device.device import Device
from metabench.device.exchange import of_ranks

SLOWED = 0.10
"""A machine that runs the reference kernel slower by more than this share marks the cell."""
BUSY_CORES = 0.25
"""Other processes that keep more cores than this busy mark the cell."""
STOLEN_CORES = 0.05
"""A hypervisor that takes more cores than this away marks the cell."""
WARM_SECONDS = 0.3
"""An idle GPU raises its clocks within this time."""
SETTLED = 0.03
"""Two readings of the reference kernel that differ by no more than this share are believed."""
ROUNDS = 6
"""At most so many readings, `PAUSE_SECONDS` apart."""
PAUSE_SECONDS = 0.05


def look(device: Device) -> dict[str, Any]:
    """The condition of all ranks together, and "reference_seconds": the reference kernel on the slowest one.

    A device that is not the host's own processor runs one too: "device_reference_seconds". Its condition is
    read right after, since an idle device has other clocks. Takes a tenth of a second, half a second on a
    GPU; to be called on every rank, outside every timed part.
    """
    own = {"reference_seconds": reference_seconds()}
    if device.torch.type != "cpu":
        own["device_reference_seconds"] = device_reference_seconds(device)
    return worst(of_ranks(device, device.condition() | own))


def worst(looks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The least favourable of each figure: the slowest clock, the largest of the others, every reason."""
    told: dict[str, Any] = {}
    for name in {name: None for one in looks for name in one}:
        values = [one[name] for one in looks if name in one]
        if isinstance(values[0], list):
            told[name] = sorted({reason for reasons in values for reason in reasons})
        else:
            told[name] = min(values) if name.endswith("_mhz") else max(values)
    return told


def reference_seconds(repeats: int = 15) -> float:
    """Seconds of a fixed piece of work on the CPU: two matrix products and a pass through memory.

    It runs on as many threads as torch has been given, so only readings of equal thread counts compare.
    """
    return _settled_seconds(_work(torch.device("cpu"), 384), time.perf_counter, repeats)


def device_reference_seconds(device: Device, size: int = 2048, repeats: int = 15) -> float:
    """The same work on the device, larger, once it has left its idle clocks.

    The memory that it takes is given back, and counts in no later peak.
    """
    work = _work(device.torch, size)
    begun = device.clock()
    while device.clock() - begun < WARM_SECONDS:
        work()
    seconds = _settled_seconds(work, device.clock, repeats)
    del work
    device.forget_peak_memory()
    return seconds


def _work(place: torch.device, size: int) -> Callable[[], None]:
    left = torch.linspace(-1, 1, size * size, dtype=torch.float32, device=place).view(size, size)
    right = left.t().contiguous()
    memory = torch.zeros(1 << 20, device=place)

    def work() -> None:
        torch.mm(torch.mm(left, right), left)
        memory.add_(1.0)

    return work


def _settled_seconds(work: Callable[[], None], clock: Callable[[], float], repeats: int) -> float:
    """The quickest median, once two of them agree: a neighbour's burst of milliseconds is no slow machine."""
    medians = [_median_seconds(work, clock, repeats)]
    while len(medians) < ROUNDS:
        time.sleep(PAUSE_SECONDS)
        medians.append(_median_seconds(work, clock, repeats))
        first, second, *_ = sorted(medians)
        if second <= first * (1 + SETTLED):
            break
    return min(medians)


def _median_seconds(work: Callable[[], None], clock: Callable[[], float], repeats: int) -> float:
    readings = []
    for _ in range(repeats + 3):
        start = clock()
        work()
        readings.append(clock() - start)
    return statistics.median(readings[3:])  # the first ones start threads and fill caches


def marks(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """One line for each sign that the machine was not the cell's alone, or not the same throughout."""
    notes = []
    for what, name in (("machine", "reference_seconds"), ("device", "device_reference_seconds")):
        first, last = before.get(name), after.get(name)
        if first and last and max(first, last) / min(first, last) > 1 + SLOWED:
            verb = "slowed" if last > first else "sped up"
            change = max(first, last) / min(first, last) - 1
            notes.append(
                f"the {what} {verb} by {change:.0%} during the cell "
                f"(reference kernel {first * 1e3:.2f} ms before, {last * 1e3:.2f} ms after)"
            )
    if after.get("others_cores", 0.0) > BUSY_CORES:
        notes.append(f"other processes kept {after['others_cores']:.1f} cores busy during the cell")
    if after.get("stolen_cores", 0.0) > STOLEN_CORES:
        notes.append(f"the hypervisor gave {after['stolen_cores']:.2f} cores to other guests during the cell")
    if after.get("other_processes", 0):
        notes.append(f"{after['other_processes']} other processes computed on the device after the cell")
    for reason in sorted({*before.get("throttled", ()), *after.get("throttled", ())}):
        notes.append(f"clocks throttled: {reason}")
    return tuple(notes)
