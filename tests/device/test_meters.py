"""Energy in joules where a meter exists, clocks and throttling of a GPU, and the load of other processes."""

from __future__ import annotations

import os
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

from metabench.device import meters
from metabench.device.meters import Nvml, Rapl, throttle_reasons


def zone(folder: Path, name: str, label: str, microjoules: int, wraps_at: int = 262_143_000_000) -> Path:
    path = folder / name
    path.mkdir()
    (path / "name").write_text(label + "\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    return path


def test_joules_count_from_when_the_meter_was_made_and_past_the_end_of_the_counter(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 262_142_900_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 5)  # a part of the package
    meter = Rapl(tmp_path)

    (package / "energy_uj").write_text("262142950000")
    first = meter.joules()
    (package / "energy_uj").write_text("50000")

    assert first == {"rapl:package-0": 0.05}
    assert meter.joules() == {"rapl:package-0": pytest.approx(0.15)}


def test_machine_without_readable_counters_has_no_column(tmp_path: Path) -> None:
    broken = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (broken / "energy_uj").unlink()

    assert Rapl(tmp_path).joules() == {}
    assert Rapl(tmp_path / "absent").joules() == {}


def test_counter_that_may_have_wrapped_around_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("metabench.device.meters.time.monotonic", lambda: now[0])
    zone(tmp_path, "intel-rapl:0", "package-0", 10)
    meter = Rapl(tmp_path)

    now[0] = 400.0
    soon = meter.joules()
    now[0] += 262_143 / meters.FASTEST_WATTS + 1

    assert soon == {"rapl:package-0": 0.0}
    assert meter.joules() == {}


def test_long_cells_lose_no_round_of_the_counter(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = Rapl(tmp_path, sample_seconds=0.01)

    for microjoules in (200_000_000_000, 100_000_000_000, 50_000_000_000):  # twice past the end
        held = package / "energy_uj.new"
        held.write_text(str(microjoules))
        held.replace(package / "energy_uj")
        time.sleep(0.5)

    rounds = 2 * 262_143_000_000
    assert meter.joules() == {"rapl:package-0": pytest.approx((rounds + 50_000_000_000) / 1e6)}


def fake_nvml(**answers: Any) -> types.ModuleType:
    """NVIDIA's library on a machine that has none: these answers, and an error for everything else."""
    library = types.ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    def refuse(*_: Any) -> None:
        raise NVMLError("not supported")

    library.NVMLError = NVMLError  # type: ignore[attr-defined]
    for name in ("NVML_CLOCK_SM", "NVML_CLOCK_MEM", "NVML_TEMPERATURE_GPU"):
        setattr(library, name, 0)
    for call in (
        "Init", "DeviceGetHandleByUUID", "DeviceGetClockInfo", "DeviceGetTemperature", "DeviceGetPowerUsage",
        "DeviceGetCurrentClocksThrottleReasons", "DeviceGetComputeRunningProcesses",
        "DeviceGetViolationStatus",
        "DeviceGetTotalEnergyConsumption", "SystemGetDriverVersion",
    ):  # fmt: skip
        answer = answers.get(call, refuse)
        setattr(library, f"nvml{call}", answer if callable(answer) else lambda *_, constant=answer: constant)
    return library


def test_gpu_reports_joules_clocks_and_throttling(monkeypatch: pytest.MonkeyPatch) -> None:
    energy = iter([5_000, 12_500])
    library = fake_nvml(
        Init=None, DeviceGetHandleByUUID="handle", DeviceGetTotalEnergyConsumption=lambda _: next(energy),
        DeviceGetClockInfo=1_980, DeviceGetCurrentClocksThrottleReasons=0x05,
        DeviceGetComputeRunningProcesses=[types.SimpleNamespace(pid=p) for p in (os.getpid(), 1, 2)],
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", library)

    meter = Nvml("GPU-1")

    assert meter.joules() == {"nvml": 7.5}
    readings = meter.read(own=[os.getpid(), 1])
    assert readings == {
        "sm_mhz": 1_980, "memory_mhz": 1_980, "throttled": ["power cap"], "other_processes": 1
    }  # fmt: skip


def test_gpu_that_was_throttled_during_the_cell_is_reported_though_it_is_idle_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, held = [0.0], {0: 0.0, 1: 0.0}  # seconds; the power cap, the thermal limit
    monkeypatch.setattr("metabench.device.meters.time.monotonic", lambda: now[0])

    def violation(_: Any, policy: int) -> Any:
        if policy not in held:
            raise library.NVMLError("not supported")
        return types.SimpleNamespace(referenceTime=0, violationTime=int(held[policy] * 1e9))

    library: Any = fake_nvml(
        Init=None, DeviceGetHandleByUUID="handle", DeviceGetCurrentClocksThrottleReasons=0x01,
        DeviceGetViolationStatus=violation,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", library)
    meter = Nvml("GPU-1")

    now[0], held[0], held[1] = 100.0, 3.0, 0.5  # 3 % and 0.5 % of the time
    during = meter.read(own=[])
    now[0] = 200.0

    assert during["throttled"] == ["power cap"]
    assert meter.read(own=[])["throttled"] == []


def test_newer_and_older_bindings_without_a_function_leave_its_figure_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    newer: Any = fake_nvml(Init=None, DeviceGetHandleByUUID="handle", DeviceGetPowerUsage=70_000)
    newer.nvmlDeviceGetCurrentClocksEventReasons = lambda _: 0x40
    for name in ("CurrentClocksThrottleReasons", "Temperature", "TotalEnergyConsumption"):
        delattr(newer, f"nvmlDeviceGet{name}")
    older: Any = fake_nvml(Init=None, DeviceGetHandleByUUID="handle", DeviceGetPowerUsage=70_000)
    for name in ("CurrentClocksThrottleReasons", "ViolationStatus", "ComputeRunningProcesses"):
        delattr(older, f"nvmlDeviceGet{name}")

    monkeypatch.setitem(sys.modules, "pynvml", newer)
    assert Nvml("GPU-1").read(own=[]) == {"watts": 70.0, "throttled": ["hardware thermal limit"]}
    assert Nvml("GPU-1").joules() == {}
    monkeypatch.setitem(sys.modules, "pynvml", older)
    assert Nvml("GPU-1").read(own=[]) == {"watts": 70.0}


def test_gpu_without_readings_and_gpu_without_library_have_no_column(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(Init=None, DeviceGetHandleByUUID="handle"))
    silent = Nvml("GPU-1")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    absent = Nvml("GPU-1")

    for meter in (silent, absent):
        assert meter.joules() == {}
        assert meter.read(own=[]) == {}
        assert meter.driver() is None


def test_in_a_container_no_process_counts_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    strangers = [types.SimpleNamespace(pid=4_000_000)]
    monkeypatch.setitem(
        sys.modules,
        "pynvml",
        fake_nvml(Init=None, DeviceGetHandleByUUID="h", DeviceGetComputeRunningProcesses=strangers),
    )

    assert "other_processes" not in Nvml("GPU-1").read(own=[1])


def test_only_reasons_that_slow_the_clock_are_throttling() -> None:
    assert throttle_reasons(0x01 | 0x02 | 0x10) == []
    assert throttle_reasons(0x08 | 0x40) == ["hardware slowdown", "hardware thermal limit"]
