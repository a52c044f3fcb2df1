"""The condition of the machine before and after a cell, and what of it disturbs the cell's times."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from metabench.device import Device
from metabench.worker import disturbance
from metabench.worker.disturbance import disturbances, measure_machine, worst_of_ranks


class Machine(Device):
    """Two ranks, of which the other one has the condition given here."""

    def __init__(self, other: dict[str, object]) -> None:
        super().__init__()
        self.other = other

    def condition(self) -> dict[str, object]:
        return {"sm_mhz": 1800, "others_cores": 0.1, "throttled": []}

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        return [list(values), list(json.dumps(self.other).encode())]


def test_condition_is_the_worst_of_all_ranks() -> None:
    other = {"sm_mhz": 900, "others_cores": 1.5, "throttled": ["power cap"], "reference_seconds": 7.0}

    assert measure_machine(Machine(other)) == other


def test_figure_that_one_rank_lacks_is_that_of_the_others() -> None:
    conditions = [{"load_1min": 1.0}, {"load_1min": 2.0, "celsius": 60}]

    assert worst_of_ranks(conditions) == {"load_1min": 2.0, "celsius": 60}


@pytest.mark.parametrize(
    ("rounds", "seconds"),
    [
        ([[9.0, 9.0, 9.0, 0.4, 0.1, 0.2]] * 2, 0.2),  # the median of what comes after the warm-up
        ([[0.5] * 6, [0.2] * 6, [0.2] * 6], 0.2),  # a burst of noise passes
        ([[0.5, 0.5, 0.5, 0.7, 0.6, 0.5], [0.5] * 6, [0.7] * 6, [0.49] * 6], 0.49),  # until two agree
        ([[0.1 * n] * 6 for n in range(9, 3, -1)], 0.4),  # at most six rounds
    ],
)
def test_reference_kernel_gives_the_quickest_median_once_two_agree(
    monkeypatch: pytest.MonkeyPatch, rounds: list[list[float]], seconds: float
) -> None:
    ticks = [tick for durations in rounds for d in durations for tick in (100.0, 100.0 + d)]
    monkeypatch.setattr("metabench.worker.disturbance.time.perf_counter", lambda: ticks.pop(0))
    monkeypatch.setattr("metabench.worker.disturbance.time.sleep", lambda seconds: None)

    assert disturbance.reference_seconds(repeats=3) == pytest.approx(seconds)
    assert not ticks


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"reference_seconds": 0.0100}, {"reference_seconds": 0.0112}, "slowed by 12%"),
        ({"reference_seconds": 0.0112}, {"reference_seconds": 0.0100}, "sped up by 12%"),
        ({"device_reference_seconds": 0.5}, {"device_reference_seconds": 0.6}, "the device slowed by 20%"),
        ({}, {"others_cores": 0.8}, "other processes kept 0.8 cores busy"),
        ({}, {"stolen_cores": 0.1}, "CPU steal took 0.10 cores"),
        ({}, {"other_processes": 2}, "2 other processes computed on the device"),
        ({"throttled": ["power cap"]}, {"throttled": []}, "clocks throttled: power cap"),
    ],
)
def test_shared_or_changing_machine_is_noted(
    before: dict[str, Any], after: dict[str, Any], words: str
) -> None:
    (note,) = disturbances(before, after)

    assert words in note


class _Accelerator(Device):
    """A device other than the host's processor, whose tensors have no data; notes its calls."""

    def __init__(self) -> None:
        super().__init__("meta")
        self.calls: list[str] = []

    def synchronize(self) -> None:
        self.calls.append("synchronize")

    def forget_peak_memory(self) -> None:
        self.calls.append("forget_peak_memory")

    def condition(self) -> dict[str, Any]:
        self.calls.append("condition")
        return super().condition()


def test_device_runs_a_reference_kernel_of_its_own_right_before_its_condition_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(disturbance, "WARM_SECONDS", 0.01)
    device = _Accelerator()

    condition = measure_machine(device)

    assert condition["device_reference_seconds"] > 0
    assert condition["reference_seconds"] > 0
    assert device.calls[-3:] == ["synchronize", "forget_peak_memory", "condition"]
    assert "device_reference_seconds" not in measure_machine(Device())


def test_quiet_machine_is_not_noted() -> None:
    before = {"reference_seconds": 0.0100, "others_cores": 3.0, "throttled": []}
    after = {"reference_seconds": 0.0109, "others_cores": 0.1, "stolen_cores": 0.0, "other_processes": 0}

    assert disturbances(before, after) == ()
