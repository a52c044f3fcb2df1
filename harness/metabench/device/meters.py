"""Meters of the machine: energy counters, and what other processes take from a measurement. No torch here.

Nothing is estimated: a meter that cannot be read gives nothing.
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
"""More than one package draws; what a counter that may have gone round unseen says is left out."""
SAMPLE_SECONDS = 60.0
"""Between two readings of the processor's counters: the smallest ones go round after 65 kJ."""
THROTTLED_SHARE = 0.01
"""Of the time between two looks: a GPU that was held back for longer was throttled."""


class Rapl:
    """Joules of the processor packages (and memory) by Intel's and AMD's counters, where they are readable.

    The counters go round within minutes, so a thread reads them every `sample_seconds`.
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
        """Joules since this meter was made, by "rapl:" and the zone's name."""
        told = {}
        with self._lock:
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
        if (when - self._when) * FASTEST_WATTS * 1e6 > self._range:  # once round would go unseen
            return None
        self._total += (now - self._last) % self._range
        self._last, self._when = now, when
        return self._total / 1e6


class Nvml:
    """Energy, clocks, throttle reasons and other processes of one NVIDIA GPU, by NVIDIA's own library.

    Needs the package nvidia-ml-py (`pip install 'metabench[energy]'`); without it, or on a GPU that does
    not tell (a slice of one, an old one), the figure is absent.
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
        self._held_back = self._violations()

    def joules(self) -> dict[str, float]:
        """Joules of the whole board since this meter was made, as "nvml"; empty where it does not tell."""
        now = self._millijoules()
        return {} if now is None or self._start is None else {"nvml": (now - self._start) / 1e3}

    def look(self, own: Collection[int]) -> dict[str, Any]:
        """ "sm_mhz", "memory_mhz", "celsius", "watts", "throttled" (reasons), "other_processes".

        "throttled" holds what slows the clocks at this moment, and what did for more than a hundredth of
        the time since the look before. own: process ids that are no others.
        """
        nvml, device = self._library, self._handle
        readings: dict[str, Callable[[], Any]] = {
            "sm_mhz": lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
            "memory_mhz": lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM),
            "celsius": lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
            "watts": lambda: nvml.nvmlDeviceGetPowerUsage(device) / 1e3,
            "throttled": self._throttled,
        }
        told = {name: self._ask(read) for name, read in readings.items()}
        processes = self._ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(device)) or []
        there = {one.pid for one in processes}
        if os.getpid() in there:  # in a container the numbers are the host's: nobody could be told apart
            told["other_processes"] = len(there - set(own))
        return {name: value for name, value in told.items() if value is not None}

    def driver(self) -> str | None:
        """The version of NVIDIA's driver."""
        version = self._ask(lambda: self._library.nvmlSystemGetDriverVersion())
        return None if version is None else str(version)

    def _throttled(self) -> list[str] | None:
        nvml = self._library
        words = "Event", "Throttle"  # the newer name and the older one
        names = [f"nvmlDeviceGetCurrentClocks{word}Reasons" for word in words]
        read = next((getattr(nvml, name) for name in names if hasattr(nvml, name)), None)
        bits = None if read is None else self._ask(lambda: read(self._handle))
        before, self._held_back = self._held_back, self._violations()
        told = None if bits is None else set(throttle_reasons(bits))
        for policy, (now, held) in self._held_back.items():
            told = told or set()
            if policy in before and now > before[policy][0]:
                share = (held - before[policy][1]) / (now - before[policy][0])
                told |= {THROTTLE_POLICIES[policy]} if share > THROTTLED_SHARE else set()
        return None if told is None else sorted(told)

    def _violations(self) -> dict[int, tuple[float, float]]:
        """Per policy that the GPU counts: the host's clock, and how long it held the GPU back; seconds."""

        def read(policy: int) -> float:
            return float(self._library.nvmlDeviceGetViolationStatus(self._handle, policy).violationTime)

        told = {}
        for policy in THROTTLE_POLICIES:
            nanoseconds = self._ask(partial(read, policy))
            if nanoseconds is not None:
                told[policy] = (time.monotonic(), nanoseconds / 1e9)
        return told

    def _millijoules(self) -> int | None:
        told = self._ask(lambda: self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        return None if told is None else int(told)

    def _ask(self, read: Callable[[], Any]) -> Any:
        """What NVIDIA's library answers; None without it, or where it, its binding or the GPU cannot tell."""
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
"""Bits of NVML's clock event reasons that make a GPU slower than it was asked to be (nvml.h).

Left out: idle (0x01), clocks that somebody set (0x02, 0x100), boost in step with other GPUs (0x10).
"""


THROTTLE_POLICIES = {0: "power cap", 1: "thermal limit", 3: "board limit", 5: "reliability limit"}
"""NVML's policies (nvmlPerfPolicyType_t) of which a GPU counts the nanoseconds that they held it back."""


def throttle_reasons(bits: int) -> list[str]:
    """What holds the clocks back, in words."""
    return [words for bit, words in THROTTLE_REASONS.items() if bits & bit]


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
        seconds = 0.0
        for one in family() if self._family else [psutil.Process()]:
            with suppress(psutil.Error):
                used = one.cpu_times()
                seconds += used.user + used.system
        return seconds


def family() -> list[psutil.Process]:
    """This process, its parent (torchrun) and all of the parent's other children: the ranks of one cell."""
    process = psutil.Process()
    with suppress(psutil.Error):
        parent = process.parent()
        if parent is not None:
            return [parent, *parent.children(recursive=True)]
    return [process]
