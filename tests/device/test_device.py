"""The device shares gradients and values among ranks as they are weighted, and looks at the machine."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.ranks import on_ranks
from metabench.device import Device
from metabench.device.device import out_of_memory
from metabench.worker import disturbance as probe

RANKS = 3


class _Operations(TorchDispatchMode):
    """Notes every operation of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(function).removesuffix(".default"))
        return function(*args, **(kwargs or {}))


def exchanged(device: Device) -> dict[str, Any]:
    """What one rank sees of a shared step: rank r has gradients of r + 1, and some of them it lacks."""
    everywhere, on_one, nowhere, row = (
        torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3), (4,), (5,), ())
    )
    everywhere.grad = torch.full((2, 3), device.rank + 1.0, dtype=torch.float64)
    row.grad = torch.tensor(device.rank + 1.0, dtype=torch.float64)
    if device.rank == 1:
        on_one.grad = torch.ones(4, dtype=torch.float64)
    place = everywhere.grad.data_ptr()
    weights = (0.5, 0.3, 0.2)
    for _ in range(2):  # a second step finds the buffer of the first
        everywhere.grad.fill_(device.rank + 1.0)
        row.grad.fill_(device.rank + 1.0)
        on_one.grad = torch.ones(4, dtype=torch.float64) if device.rank == 1 else None
        device.average_gradients([everywhere, on_one, nowhere, row], weights[device.rank])
    assert on_one.grad is not None
    device.average_gradients([], 1.0)
    with _Operations() as seen:
        device.average_gradients([everywhere, row], weights[device.rank])
    return {
        "operations": sorted(seen.names),
        "everywhere": everywhere.grad.numpy(), "row": float(row.grad), "on_one": on_one.grad.numpy(),
        "nowhere": nowhere.grad, "in place": everywhere.grad.data_ptr() == place,
        "short": device.gather([device.rank / 3] * device.rank),
        "long": device.gather([float(device.rank)] * (40 * device.rank)),
        "slowest": device.slowest(float(device.rank)), "agreed": device.agree(device.rank == 0),
        "disagreed": device.agree(device.rank != 0),
    }  # fmt: skip


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    return on_ranks(RANKS, exchanged)


def test_gradients_are_summed_by_weight(ranks: list[dict[str, Any]]) -> None:
    for told in ranks:
        np.testing.assert_allclose(told["everywhere"], np.full((2, 3), 1.7), rtol=1e-15)
        assert told["row"] == pytest.approx(1.7, rel=1e-15)


def test_missing_gradient_counts_as_zeros_and_one_missing_everywhere_stays_missing(
    ranks: list[dict[str, Any]],
) -> None:
    for told in ranks:
        np.testing.assert_allclose(told["on_one"], np.full(4, 0.3), rtol=1e-15)
        assert told["nowhere"] is None


def test_step_without_missing_gradients_takes_nothing_from_the_host_and_reads_nothing(
    ranks: list[dict[str, Any]],
) -> None:
    for told in ranks:
        assert any("copy_" in name for name in told["operations"]), told["operations"]
        assert not {"aten.lift_fresh", "aten._to_copy", "aten._local_scalar_dense"} & set(told["operations"])


def test_gradients_are_written_where_they_were(ranks: list[dict[str, Any]]) -> None:
    assert all(told["in place"] for told in ranks)


def test_values_are_gathered_in_the_order_of_ranks_however_many_each_has(ranks: list[dict[str, Any]]) -> None:
    for told in ranks:
        assert told["short"] == [[], [1 / 3], [2 / 3, 2 / 3]]
        assert told["long"] == [[], [1.0] * 40, [2.0] * 80]


def test_slowest_and_agreement_are_the_same_on_every_rank(ranks: list[dict[str, Any]]) -> None:
    assert [told["slowest"] for told in ranks] == [2.0] * RANKS
    assert [told["agreed"] for told in ranks] == [True] * RANKS
    assert [told["disagreed"] for told in ranks] == [False] * RANKS


def test_one_process_is_its_own_ranks() -> None:
    device = Device()
    weights = torch.zeros(2, requires_grad=True)
    weights.grad = torch.ones(2)

    device.average_gradients([weights], 1.0)

    assert weights.grad.tolist() == [1.0, 1.0]
    assert device.gather([1, 2]) == [[1.0, 2.0]]
    assert device.slowest(0.5) == 0.5
    assert device.agree(True) is True


def test_peak_memory_grows_with_what_was_held() -> None:
    device = Device()
    before = device.peak_memory()["host"]

    torch.ones(int(before) + (64 << 20), dtype=torch.uint8)  # beyond any earlier peak of this process

    assert device.peak_memory()["host"] >= before + (64 << 20)


def test_environment_tells_every_switch_of_the_numerics() -> None:
    told = Device(dtype=torch.float64, facts={"precision": "float64"}).environment()

    assert told["dtype"] == "float64"
    assert told["precision"] == "float64"
    assert {"threads", "autocast", "float32_products", "cpu_capability", "energy_meters"} <= set(told)


def test_condition_sees_what_other_processes_take() -> None:
    import subprocess
    import sys

    device = Device()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        time.sleep(0.5)
        told = device.condition()
        other.kill()

    assert told["others_cores"] > 0.1


@pytest.mark.parametrize(
    ("rounds", "told"),
    [
        ([[9.0, 9.0, 9.0, 0.4, 0.1, 0.2]] * 2, 0.2),  # the median of what comes after the warm-up
        ([[0.5] * 6, [0.2] * 6, [0.2] * 6], 0.2),  # a neighbour's burst goes by
        ([[0.5, 0.5, 0.5, 0.7, 0.6, 0.5], [0.5] * 6, [0.7] * 6, [0.49] * 6], 0.49),  # until two agree
        ([[0.1 * n] * 6 for n in range(9, 3, -1)], 0.4),  # at most six rounds
    ],
)
def test_reference_kernel_gives_the_quickest_median_once_two_agree(
    monkeypatch: pytest.MonkeyPatch, rounds: list[list[float]], told: float
) -> None:
    ticks = [tick for durations in rounds for d in durations for tick in (100.0, 100.0 + d)]
    monkeypatch.setattr("metabench.worker.disturbance.time.perf_counter", lambda: ticks.pop(0))
    monkeypatch.setattr("metabench.worker.disturbance.time.sleep", lambda seconds: None)

    assert probe.reference_seconds(repeats=3) == pytest.approx(told)
    assert not ticks


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"reference_seconds": 0.0100}, {"reference_seconds": 0.0112}, "slowed by 12%"),
        ({"reference_seconds": 0.0112}, {"reference_seconds": 0.0100}, "sped up by 12%"),
        ({"device_reference_seconds": 0.5}, {"device_reference_seconds": 0.6}, "the device slowed by 20%"),
        ({}, {"others_cores": 0.8}, "other processes kept 0.8 cores busy"),
        ({}, {"stolen_cores": 0.1}, "hypervisor"),
        ({}, {"other_processes": 2}, "2 other processes computed on the device"),
        ({"throttled": ["power cap"]}, {"throttled": []}, "clocks throttled: power cap"),
    ],
)
def test_cell_is_marked_where_the_machine_was_not_its_own(
    before: dict[str, Any], after: dict[str, Any], said: str
) -> None:
    (note,) = probe.marks(before, after)

    assert said in note


class _Elsewhere(Device):
    """A device beside the host's processor, whose tensors have no numbers; notes what it is asked."""

    def __init__(self) -> None:
        super().__init__("meta")
        self.asked: list[str] = []

    def synchronize(self) -> None:
        self.asked.append("synchronize")

    def forget_peak_memory(self) -> None:
        self.asked.append("forget_peak_memory")

    def condition(self) -> dict[str, Any]:
        self.asked.append("condition")
        return super().condition()


def test_device_runs_a_reference_kernel_of_its_own_right_before_its_condition_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "WARM_SECONDS", 0.01)
    device = _Elsewhere()

    told = probe.look(device)

    assert told["device_reference_seconds"] > 0
    assert told["reference_seconds"] > 0
    assert device.asked[-3:] == ["synchronize", "forget_peak_memory", "condition"]
    assert "device_reference_seconds" not in probe.look(Device())


def test_quiet_machine_leaves_no_mark() -> None:
    before = {"reference_seconds": 0.0100, "others_cores": 3.0, "throttled": []}
    after = {"reference_seconds": 0.0109, "others_cores": 0.1, "stolen_cores": 0.0, "other_processes": 0}

    assert probe.marks(before, after) == ()


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3 bytes"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm`"), False),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: Exception, is_memory: bool) -> None:
    assert out_of_memory(error) is is_memory
