"""Meters of the machine: energy counters, GPU clocks, and the load of other processes. No torch here.

Nothing is estimated: the figure of a meter that cannot be read is absent.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

POWERCAP = Path("/sys/class/powercap")
FASTEST_WATTS = 600.0
"""More than a package draws: a counter that may have wrapped around between two readings is left out."""
SAMPLE_SECONDS = 60.0
"""Between two readings of the processor's counters: the smallest ones wrap around after 65 kJ."""
THROTTLED_FRACTION = 0.01
"""The fraction of the time between two readings from which a slowed GPU counts as throttled."""


class Rapl:
    """Joules of the processor packages (and memory) by Intel's and AMD's counters, where they are readable.

    The counters wrap around within minutes, so a thread reads them every `sample_seconds`.
    """

    def __init__(self, folder: Path = POWERCAP, sample_seconds: float = SAMPLE_SECONDS) -> None:
        self._zones: dict[str, _Zone] = {}
        self._lock = threading.Lock()
        for name, path in _zones(folder):
            with suppress(OSError, ValueError):  # readable by root only on most systems
                self._zones[f"rapl:{name}"] = _Zone(path)
        if self._zones:
            threading.Thread(target=self._sample, args=(sample_seconds,), daemon=True, name="rapl").start()

    def joules(self) -> dict[str, float]:
        """Return the joules since this meter was opened, by "rapl:" and the zone's name."""
        joules = {}
        with self._lock:
            for name in list(self._zones):
                try:
                    value = self._zones[name].joules()
                except (OSError, ValueError):
                    value = None
                if value is None:
                    del self._zones[name]  # with a gap in it, the sum would be too small
                else:
                    joules[name] = value
        return joules

    def _sample(self, seconds: float) -> None:
        time.sleep(seconds)
        while self.joules():
            time.sleep(seconds)


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
        if (when - self._when) * FASTEST_WATTS * 1e6 > self._range:  # it may have wrapped around in between
            return None
        self._total += (now - self._last) % self._range
        self._last, self._when = now, when
        return self._total / 1e6


class Nvml:
    """Energy, clocks, throttle reasons and other processes of one NVIDIA GPU, by NVIDIA's own library.

    Needs the package nvidia-ml-py (`pip install 'metabench[energy]'`); without it, or on a GPU that does
    not report it (a slice of a GPU, an old one), the figure is absent.
    """

    def __init__(self, uuid: str) -> None:
        self._library: Any = None
        self._handle: Any = None
        with suppress(ImportError):
            library = import_module("pynvml")
            with suppress(library.NVMLError, AttributeError):
                library.nvmlInit()
                self._handle = library.nvmlDeviceGetHandleByUUID(uuid)
                self._library = library
        self._start = self._millijoules()
        self._throttle_times = self._read_throttle_times()

    def joules(self) -> dict[str, float]:
        """Return the joules of the whole board since this meter was opened, as "nvml", where known."""
        now = self._millijoules()
        return {} if now is None or self._start is None else {"nvml": (now - self._start) / 1e3}

    def read(self, own: Collection[int]) -> dict[str, Any]:
        """Return "sm_mhz", "memory_mhz", "celsius", "watts", "throttled" (reasons), "other_processes".

        "throttled" holds the reasons that apply now, and those that applied for more than a hundredth of
        the time since the last reading. own: process ids that do not count as others.
        """
        nvml, device = self._library, self._handle
        reads: dict[str, Callable[[], Any]] = {
            "sm_mhz": lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
            "memory_mhz": lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM),
            "celsius": lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
            "watts": lambda: nvml.nvmlDeviceGetPowerUsage(device) / 1e3,
            "throttled": self._throttled,
        }
        readings = {name: self._query(read) for name, read in reads.items()}
        processes = self._query(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(device)) or []
        pids = {process.pid for process in processes}
        if os.getpid() in pids:  # in a container the ids are the host's, and own ones cannot be recognised
            readings["other_processes"] = len(pids - set(own))
        return {name: value for name, value in readings.items() if value is not None}

    def driver(self) -> str | None:
        """Return the version of NVIDIA's driver."""
        version = self._query(lambda: self._library.nvmlSystemGetDriverVersion())
        return None if version is None else str(version)

    def _throttled(self) -> list[str] | None:
        nvml = self._library
        words = "Event", "Throttle"  # the newer name and the older one
        names = [f"nvmlDeviceGetCurrentClocks{word}Reasons" for word in words]
        read = next((getattr(nvml, name) for name in names if hasattr(nvml, name)), None)
        bits = None if read is None else self._query(lambda: read(self._handle))
        before, self._throttle_times = self._throttle_times, self._read_throttle_times()
        reasons = None if bits is None else set(throttle_reasons(bits))
        for policy, (now, throttled) in self._throttle_times.items():
            reasons = reasons or set()
            if policy in before and now > before[policy][0]:
                fraction = (throttled - before[policy][1]) / (now - before[policy][0])
                reasons |= {THROTTLE_POLICIES[policy]} if fraction > THROTTLED_FRACTION else set()
        return None if reasons is None else sorted(reasons)

    def _read_throttle_times(self) -> dict[int, tuple[float, float]]:
        """For each policy that the GPU counts: the host's clock, and the time throttled by it; seconds."""

        def read(policy: int) -> float:
            return float(self._library.nvmlDeviceGetViolationStatus(self._handle, policy).violationTime)

        times = {}
        for policy in THROTTLE_POLICIES:
            nanoseconds = self._query(partial(read, policy))
            if nanoseconds is not None:
                times[policy] = (time.monotonic(), nanoseconds / 1e9)
        return times

    def _millijoules(self) -> int | None:
        millijoules = self._query(lambda: self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        return None if millijoules is None else int(millijoules)

    def _query(self, read: Callable[[], Any]) -> Any:
        """What NVIDIA's library returns; None without it, or where binding or GPU lack the figure."""
        if self._library is None:
            return None
        try:
            return read()
        except (self._library.NVMLError, AttributeError):
            return None


THROTTLE_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal limit",
    0x40: "hardware thermal limit",
    0x80: "power brake",
}
"""Bits of NVML's clock event reasons that make a GPU slower than its requested clocks (nvml.h).

Left out: idle (0x01), clocks set by a user (0x02, 0x100), boost synchronised with other GPUs (0x10).
"""


THROTTLE_POLICIES = {0: "power cap", 1: "thermal limit", 3: "board limit", 5: "reliability limit"}
"""NVML's policies (nvmlPerfPolicyType_t) for which a GPU counts the nanoseconds of throttling."""


def throttle_reasons(bits: int) -> list[str]:
    """Return the reasons for throttling, in words."""
    return [words for bit, words in THROTTLE_REASONS.items() if bits & bit]


class CpuShare:
    """The load of other processes on the processor, and CPU steal, between two readings.

    family: count every process of this one's parent as its own (the ranks of a cell).
    """

    def __init__(self, family: bool = False) -> None:
        self._family = family
        self._before = self._sample()

    def read(self) -> dict[str, Any]:
        """Return "cpu_mhz", "load_1min", and since the last reading "others_cores" and "stolen_cores"."""
        readings: dict[str, Any] = {}
        with suppress(OSError, NotImplementedError, AttributeError, RuntimeError):
            clock = psutil.cpu_freq()
            if clock:
                readings["cpu_mhz"] = round(clock.current, 1)
        with suppress(OSError, AttributeError):
            readings["load_1min"] = round(os.getloadavg()[0], 2)
        before, now = self._before, self._sample()
        self._before = now
        passed = now[0] - before[0]
        if passed >= 0.1:  # the system counts in hundredths of a second
            others = (now[1] - before[1]) - (now[2] - before[2])
            readings["others_cores"] = round(max(0.0, others / passed), 3)
            readings["stolen_cores"] = round((now[3] - before[3]) / passed, 3)
        return readings

    def _sample(self) -> tuple[float, float, float, float]:
        """Seconds: now, the machine's busy time, this process's own, and CPU steal."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        stolen = float(getattr(times, "steal", 0.0))
        # user time includes guest time
        counted = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return time.monotonic(), counted - idle - stolen, self._own(), stolen

    def _own(self) -> float:
        seconds = 0.0
        for process in family() if self._family else [psutil.Process()]:
            with suppress(psutil.Error):
                used = process.cpu_times()
                seconds += used.user + used.system
        return seconds


def family() -> list[psutil.Process]:
    """Return this process, its parent (torchrun) and all of the parent's children: the ranks of a cell."""
    process = psutil.Process()
    with suppress(psutil.Error):
        parent = process.parent()
        if parent is not None:
            return [parent, *parent.children(recursive=True)]
    return [process]
