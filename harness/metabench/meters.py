"""Meters of the machine: energy counters, and what other processes take from a measurement. No torch here.

Nothing is estimated: a meter that cannot be read gives nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

POWERCAP = Path("/sys/class/powercap")
FASTEST_WATTS = 600.0
"""More than one package draws; a counter that may have gone round twice since it was read is not told."""


class Rapl:
    """Joules of the processor packages (and memory) by Intel's and AMD's counters, where they are readable.

    The counters go round; they are read on every `joules`, which must therefore be called now and then.
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self._zones: dict[str, _Zone] = {}
        for name, path in _zones(folder):
            with suppress(OSError, ValueError):  # readable by root only on most systems
                self._zones[f"rapl:{name}"] = _Zone(path)

    def joules(self) -> dict[str, float]:
        """Joules since this meter was made, by "rapl:" and the zone's name."""
        told = {}
        for name in list(self._zones):
            try:
                value = self._zones[name].joules()
            except (OSError, ValueError):
                value = None
            if value is None:
                del self._zones[name]  # a gap in it would read as a small number
            else:
                told[name] = value
        return told


def _zones(folder: Path) -> Iterator[tuple[str, Path]]:
    """Top-level packages; a zone's own parts (core, uncore) are in it already."""
    for path in sorted(folder.glob("intel-rapl:*")):
        if path.name.count(":") == 1:
            with suppress(OSError):
                yield (path / "name").read_text().strip(), path


class _Zone:
    def __init__(self, path: Path) -> None:
        self._counter = path / "energy_uj"
        self._range = int((path / "max_energy_range_uj").read_text())
        self._last = int(self._counter.read_text())
        self._when = time.monotonic()
        self._total = 0

    def joules(self) -> float | None:
        now, when = int(self._counter.read_text()), time.monotonic()
        if (when - self._when) * FASTEST_WATTS * 1e6 > 2 * self._range:
            return None
        self._total += (now - self._last) % self._range
        self._last, self._when = now, when
        return self._total / 1e6


class CpuShare:
    """What other processes, and other guests of the same host, took of the processor between two looks.

    family: count every process of this one's parent as its own (the ranks of one cell).
    """

    def __init__(self, family: bool = False) -> None:
        self._family = family
        self._before = self._sample()

    def look(self) -> dict[str, Any]:
        """ "cpu_mhz", "load_1min", and since the look before "others_cores" and "stolen_cores"."""
        told: dict[str, Any] = {}
        with suppress(OSError, NotImplementedError, AttributeError, RuntimeError):
            clock = psutil.cpu_freq()
            if clock:
                told["cpu_mhz"] = round(clock.current, 1)
        with suppress(OSError, AttributeError):
            told["load_1min"] = round(os.getloadavg()[0], 2)
        before, now = self._before, self._sample()
        self._before = now
        passed = now[0] - before[0]
        if passed >= 0.1:  # the system counts in hundredths of a second
            others = (now[1] - before[1]) - (now[2] - before[2])
            told["others_cores"] = round(max(0.0, others / passed), 3)
            told["stolen_cores"] = round((now[3] - before[3]) / passed, 3)
        return told

    def _sample(self) -> tuple[float, float, float, float]:
        """Seconds: now, the machine's busy time, our own, and what the hypervisor took."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        stolen = float(getattr(times, "steal", 0.0))
        # guest time stands in user time already
        counted = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return time.monotonic(), counted - idle - stolen, self._own(), stolen

    def _own(self) -> float:
        process = psutil.Process()
        family = [process]
        if self._family:
            with suppress(psutil.Error):
                parent = process.parent()
                family = [parent, *parent.children(recursive=True)] if parent else family
        seconds = 0.0
        for one in family:
            with suppress(psutil.Error):
                used = one.cpu_times()
                seconds += used.user + used.system
        return seconds
