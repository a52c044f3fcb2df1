"""On a GPU: the meta-gradient of the CPU, by one rank or two that share it, eager or captured in a graph."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.meta_steps import meta_gradient
from helpers.shell import ROOT
from metabench import Dataset, Protocol
from metabench.data.order import draw_episodes
from metabench.device import Device
from metabench.engine.kernels import layer_kernels
from metabench.engine.triton.check import largest_error
from metabench.settings import make
from metabench.testing import check_backend
from metabench.worker.disturbance import measure_machine
from metabench_plugins.backends.cuda import Cuda
from metabench_plugins.backends.cuda_ranks import CudaRanks
from metabench_plugins.datasets.glyphs import Glyphs
from metabench_plugins.datasets.harmonics import Harmonics
from metabench_plugins.datasets.sinusoid import Sinusoid

pytestmark = pytest.mark.skipif(
    make(Cuda).available() is not None, reason=f"needs a GPU: {make(Cuda).available()}"
)


def apart(actual: Tensor, wanted: Tensor) -> float:
    return float((actual - wanted).abs().max() / wanted.abs().max())


def test_gradient_of_the_gpu_is_that_of_the_cpu() -> None:
    wanted = meta_gradient(Device(dtype=torch.float64))

    with make(Cuda, {"precision": "float64"}).open() as device:
        assert apart(meta_gradient(device), wanted) < 1e-9


def test_captured_step_gives_the_gradient_of_the_eager_one() -> None:
    with make(Cuda, {"precision": "float64"}).open() as device:
        assert apart(meta_gradient(device, "cuda-graph"), meta_gradient(device)) < 1e-9


@pytest.mark.parametrize(("precision", "least"), [("float32", 1e-9), ("bf16", 1e-3)])
def test_captured_step_rounds_as_the_eager_one_does(precision: str, least: float) -> None:
    """In each number format the captured step loses what the eager one loses against float64.

    The two are not compared with each other: an input of a ReLU within rounding of 0 may change sides in
    one of them alone, if cuDNN picks another algorithm while it is captured. least: of the norm, what
    computing in this format loses at least; in float64 it would be 1e-15.
    """
    exact = meta_gradient(Device(dtype=torch.float64))
    with make(Cuda, {"precision": precision}).open() as device:
        captured, eager = (
            float((meta_gradient(device, execution).double() - exact).norm() / exact.norm())
            for execution in ("cuda-graph", "eager")
        )

    assert least < captured < 1.25 * eager + 1e-3  # 1e-3: one such input among these tasks, in float32


RANK = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from metabench.settings import make
from metabench_plugins.backends.cuda_ranks import CudaRanks
from helpers.meta_steps import meta_gradient
with make(CudaRanks, json.loads(sys.argv[3])).open() as device:
    numbers = range(1) if device.rank < device.world_size - 1 else range(device.world_size - 1, 4)  # uneven
    outcome = [meta_gradient(device, numbers=numbers).tolist(), device.environment()]
    Path(sys.argv[1], f"{device.rank}.json").write_text(json.dumps(outcome))
"""


def ranks(tmp_path: Path, **settings: Any) -> list[tuple[list[float], dict[str, Any]]]:
    """The meta-gradient and the environment of each rank."""
    (tmp_path / "rank.py").write_text(RANK)
    settings["precision"] = "float64"
    argv = [sys.executable, *map(str, (tmp_path / "rank.py", tmp_path, ROOT / "tests")), json.dumps(settings)]
    command, variables = make(CudaRanks, settings).command(argv)

    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr
    return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(settings["ranks"])]


def test_two_ranks_that_share_a_gpu_compute_what_one_does(tmp_path: Path) -> None:
    by_rank = ranks(tmp_path, ranks=2, share=True)

    with make(Cuda, {"precision": "float64"}).open() as device:
        wanted = meta_gradient(device)
    for gradient, environment in by_rank:
        assert apart(torch.tensor(gradient, dtype=torch.float64), wanted) < 1e-12
        if torch.cuda.device_count() == 1:
            assert environment["communication"] == "gloo (ranks share a GPU)"


def test_one_rank_communicates_over_nccl(tmp_path: Path) -> None:
    ((gradient, environment),) = ranks(tmp_path, ranks=1)

    assert environment["communication"] == "nccl"
    with make(Cuda, {"precision": "float64"}).open() as device:
        assert apart(torch.tensor(gradient, dtype=torch.float64), meta_gradient(device)) < 1e-12


def test_ranks_that_share_a_gpu_keep_the_contract_of_backends() -> None:
    check_backend(make(CudaRanks, {"ranks": 2, "share": True}))


def test_gpu_reports_its_peak_memory_its_name_and_its_own_reference_kernel() -> None:
    with make(Cuda).open() as device:
        condition: dict[str, Any] = measure_machine(device)
        small = device.peak_memory()["device"]
        held = torch.ones(64 << 20, dtype=torch.uint8, device=device.torch)
        memory, environment = device.peak_memory(), device.environment()

    assert condition["device_reference_seconds"] > 0
    assert memory["device"] >= small + held.numel()
    assert memory["device_reserved"] >= memory["device"]
    assert environment["gpu"]
    assert environment["float32_products"]["cuda.matmul"] == "ieee"


def test_clocks_and_throttling_of_the_gpu_are_reported_where_nvidias_library_is() -> None:
    pytest.importorskip("pynvml", reason="needs the extra: pip install 'metabench[energy]'")
    with make(Cuda).open() as device:
        condition = device.condition()

    assert condition["sm_mhz"] > 0
    assert isinstance(condition["throttled"], list)


@pytest.mark.parametrize("dataset", [Glyphs(), Sinusoid(noise=0.1), Harmonics()])
def test_drawing_tasks_never_makes_the_host_wait(dataset: Dataset) -> None:
    protocol = Protocol(1 if dataset.describe().kind == "regression" else 5, 2, 3)
    host = dataset.load(Device())
    with make(Cuda).open() as device:
        source = dataset.load(device)
        draw_episodes(source, "train", protocol, range(4), 0)
        torch.cuda.set_sync_debug_mode("error")
        try:
            drawn = draw_episodes(source, "train", protocol, range(4, 12), 0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        wanted = draw_episodes(host, "train", protocol, range(4, 12), 0)

        torch.testing.assert_close(drawn.support.x.cpu(), wanted.support.x, rtol=0, atol=0)
        torch.testing.assert_close(drawn.query.y.cpu(), wanted.query.y)


@pytest.mark.parametrize(
    ("precision", "most"), [("float64", 1e-12), ("float32", 1e-5), ("tf32x3", 1e-5), ("tf32", 1e-2)]
)
def test_tritons_kernels_compute_on_the_gpu_what_torch_does(precision: str, most: float) -> None:
    pytest.importorskip("triton")
    with make(Cuda, {"precision": precision}).open() as device:
        kernels = layer_kernels(torch.ones(1, dtype=device.dtype, device=device.torch))

        assert kernels is not None
        assert kernels.title == ("triton kernels, tf32x3" if precision == "tf32x3" else "triton kernels")
        assert largest_error(kernels, device.torch, device.dtype) < most
