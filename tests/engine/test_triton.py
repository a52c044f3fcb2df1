"""The GPU's kernels, run number by number by Triton's interpreter, compute what torch does in float64."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from helpers.meta_steps import meta_gradient
from helpers.shell import ROOT
from metabench.device import Device
from metabench.engine.kernels import choice
from metabench.errors import Skip
from metabench_plugins.backends._numerics import set_numerics

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton, which torch for CUDA has")


def test_kernels_compute_blocks_and_meta_steps_as_torch_does_in_float64() -> None:
    script = ROOT / "tests" / "helpers" / "triton_kernels.py"
    variables = {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"}

    done = subprocess.run(
        [sys.executable, str(script)], env=os.environ | variables, capture_output=True, text=True, timeout=300
    )

    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout)
    assert errors["float64"] < 1e-12  # output, gradients and second derivatives of a block
    assert errors["float32"] < 1e-5
    assert errors["convolutions"] < 1e-12
    assert errors["product"] < 1e-6
    assert errors["path"] == "batched, triton kernels"
    gradient = torch.tensor(errors["meta_gradient"], dtype=torch.float64)
    expected = meta_gradient(Device(dtype=torch.float64), numbers=range(2))
    assert float((gradient - expected).abs().max() / expected.abs().max()) < 1e-10


@pytest.mark.slow
def test_kernels_compile_for_an_h100(tmp_path: Path) -> None:
    script = ROOT / "tests" / "helpers" / "triton_targets.py"

    done = subprocess.run(
        [sys.executable, str(script)], env=os.environ | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip

    assert (done.returncode, done.stdout.strip()) == (0, "11"), done.stderr


def test_tf32x3_is_in_the_environment_and_is_refused_without_its_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "_of_gpu", lambda *_: None)
    monkeypatch.setattr(choice, "_interpreted", lambda: True)
    set_numerics("tf32x3", False)
    try:
        products = Device().environment()["float32_products"]
        with pytest.raises(Skip, match="'tf32x3' needs Triton's kernels"):
            choice.layer_kernels(torch.ones(1))
    finally:
        set_numerics("float32", False)

    assert (products["metabench.convolutions"], products["cuda.matmul"]) == ("tf32x3", "ieee")
    assert "metabench.convolutions" not in Device().environment()["float32_products"]


class Wrong:
    """Kernels that raise."""

    title = "wrong kernels"

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(f"no kernel {name}")


def test_kernels_that_fail_on_a_device_are_not_chosen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from metabench.engine.triton import binding

    monkeypatch.setattr(binding, "TritonKernels", lambda products: Wrong())

    with caplog.at_level("WARNING"):
        assert choice._of_gpu(torch.device("cpu"), torch.float64, False) is None
    choice._of_gpu.cache_clear()

    assert "torch's own operations compute on the GPU: Triton's kernels fail there" in caplog.text
