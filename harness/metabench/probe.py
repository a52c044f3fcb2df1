"""Looks at the machine before and after a cell, and says what a reader must know of the difference.

before = look(device)      # on every rank
…                          # the cell
after = look(device)
notes = marks(before, after)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch

from metabench.device import Device

SLOWED = 0.10
"""A machine that runs the reference kernel slower by more than this share marks the cell."""
BUSY_CORES = 0.25
"""Other processes that keep more cores than this busy mark the cell."""
STOLEN_CORES = 0.05
"""A hypervisor that takes more cores than this away marks the cell."""


def look(device: Device) -> dict[str, Any]:
    """The device's condition, and "reference_seconds": the reference kernel on the slowest rank.

    Takes about a tenth of a second; to be called on every rank, outside every timed part.
    """
    told = device.condition()
    told["reference_seconds"] = device.slowest(reference_seconds())
    return told


def reference_seconds(repeats: int = 15) -> float:
    """Median seconds of a fixed piece of work on the CPU: two matrix products and a pass through memory.

    It runs on as many threads as torch has been given, so only readings of equal thread counts compare.
    """
    size = 384
    left = torch.linspace(-1, 1, size * size, dtype=torch.float32).view(size, size)
    right = left.t().contiguous()
    memory = torch.zeros(1 << 20)
    readings = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        torch.mm(torch.mm(left, right), left)
        memory.add_(1.0)
        readings.append(time.perf_counter() - start)
    return statistics.median(readings[3:])  # the first ones start threads and fill caches


def marks(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """One line for each sign that the machine was not the cell's alone, or not the same throughout."""
    notes = []
    first, last = before.get("reference_seconds"), after.get("reference_seconds")
    if first and last and max(first, last) / min(first, last) > 1 + SLOWED:
        verb = "slowed" if last > first else "sped up"
        change = abs(last / first - 1) if last > first else first / last - 1
        notes.append(
            f"the machine {verb} by {change:.0%} during the cell "
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
