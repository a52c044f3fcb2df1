"""The device averages gradients by weight and exchanges values among ranks; it describes the machine."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.ranks import on_ranks
from metabench.device import Device, host

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
    for rank in ranks:
        np.testing.assert_allclose(rank["everywhere"], np.full((2, 3), 1.7), rtol=1e-15)
        assert rank["row"] == pytest.approx(1.7, rel=1e-15)


def test_missing_gradient_counts_as_zeros_and_one_missing_everywhere_stays_missing(
    ranks: list[dict[str, Any]],
) -> None:
    for rank in ranks:
        np.testing.assert_allclose(rank["on_one"], np.full(4, 0.3), rtol=1e-15)
        assert rank["nowhere"] is None


def test_step_without_missing_gradients_takes_nothing_from_the_host_and_reads_nothing(
    ranks: list[dict[str, Any]],
) -> None:
    for rank in ranks:
        assert any("copy_" in name for name in rank["operations"]), rank["operations"]
        assert not {"aten.lift_fresh", "aten._to_copy", "aten._local_scalar_dense"} & set(rank["operations"])


def test_gradients_are_written_where_they_were(ranks: list[dict[str, Any]]) -> None:
    assert all(rank["in place"] for rank in ranks)


def test_values_are_gathered_in_the_order_of_ranks_however_many_each_has(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["short"] == [[], [1 / 3], [2 / 3, 2 / 3]]
        assert rank["long"] == [[], [1.0] * 40, [2.0] * 80]


def test_slowest_and_agreement_are_the_same_on_every_rank(ranks: list[dict[str, Any]]) -> None:
    assert [rank["slowest"] for rank in ranks] == [2.0] * RANKS
    assert [rank["agreed"] for rank in ranks] == [True] * RANKS
    assert [rank["disagreed"] for rank in ranks] == [False] * RANKS


def test_one_process_is_its_own_ranks() -> None:
    device = Device()
    weights = torch.zeros(2, requires_grad=True)
    weights.grad = torch.ones(2)

    device.average_gradients([weights], 1.0)

    assert weights.grad.tolist() == [1.0, 1.0]
    assert device.gather([1, 2]) == [[1.0, 2.0]]
    assert device.slowest(0.5) == 0.5
    assert device.agree(True) is True


def test_a_clock_that_a_learner_replaces_changes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner may slow `time.perf_counter` in its worker; the training clock goes on as before."""
    with Device() as device:
        monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
        clock, moments = device.clock(), [device.moment()]
        time.sleep(0.01)
        moments.append(device.moment())
        assert device.clock() - clock >= 0.01
        assert device.seconds_between(moments)[0] >= 0.01


def test_environment_has_every_switch_of_the_numerics() -> None:
    environment = Device(dtype=torch.float64, facts={"precision": "float64"}).environment()

    assert environment["dtype"] == "float64"
    assert environment["precision"] == "float64"
    assert {"threads", "autocast", "float32_products", "cpu_capability", "energy_meters"} <= set(environment)


def test_condition_includes_the_load_of_other_processes() -> None:
    import subprocess
    import sys

    device = Device()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        time.sleep(0.5)
        condition = device.condition()
        other.kill()

    assert condition["others_cores"] > 0.1


def test_a_copy_without_git_is_of_the_commit_that_a_variable_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_GIT", "0123abc")

    assert host.provenance()["git"] == "0123abc"
