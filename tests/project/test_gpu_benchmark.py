"""benchmarks/gpu.py: its counting is right wherever it runs, and it says why there is nothing to measure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from metabench.device import Device
from metabench.settings import make
from metabench_plugins.backends.cuda import Cuda

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import gpu

    return gpu


def test_time_in_overlapping_kernels_is_counted_once(gpu: Any) -> None:
    assert gpu.busy_seconds([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 2.5)]) == 4.0
    assert gpu.busy_seconds([]) == 0.0


def test_profiler_counts_what_a_step_runs(gpu: Any) -> None:
    x = torch.ones(64, 64)

    single = gpu.profiled(lambda: x.add(x), Device(), steps=4)
    double = gpu.profiled(lambda: x.add(x).mul(x), Device(), steps=4)

    assert (single.kernels, double.kernels) == (1.0, 2.0)
    assert single.launches == 0
    assert 0 < double.busy <= 1


def test_meta_steps_run_on_any_device(gpu: Any) -> None:
    step = gpu.step_of("sine-maml", "eager", Device())

    assert gpu.seconds_of(step, Device(), repeats=1) > 0
    assert len(gpu.tasks_of("sine-maml", Device(), copies=8).index) == gpu.LARGE


def test_ratios_are_measured_on_equal_work_only(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "EXECUTIONS", ("eager",))  # the CPU has no graphs to capture
    monkeypatch.setattr(sys.modules["_contest"], "SAME_WORK", 0.0)  # so that rounding counts as other work

    with pytest.raises(SystemExit, match="not the same work, so nothing is timed"):
        gpu.ratios(Device(), quick=True)


@pytest.mark.skipif(make(Cuda).available() is None, reason="this machine has a GPU to measure")
def test_machine_without_gpu_gets_the_reason() -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "gpu.py"), "--quick"], capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 1
    assert done.stderr.startswith(f"benchmarks/gpu.py measures a GPU: {make(Cuda).available()}")
    assert "Traceback" not in done.stderr
