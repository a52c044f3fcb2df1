"""benchmarks/gpu.py: its counting is right wherever it runs, and it says why there is nothing to measure."""

from __future__ import annotations

import json
import os
import shutil
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
    assert 0 < double.kernel_seconds < 0.1


def test_profiler_counts_no_annotation(gpu: Any) -> None:
    optimizer = torch.optim.Adam([torch.ones(3, requires_grad=True)])  # without a gradient it does nothing

    assert gpu.profiled(optimizer.step, Device(), steps=2).kernels == 0


def test_meta_steps_run_on_any_device(gpu: Any) -> None:
    step = gpu.step_of("sine-maml", "eager", Device())

    assert gpu.seconds_of(step, Device(), repeats=1) > 0
    assert len(gpu.tasks_of("sine-maml", Device(), copies=8).index) == gpu.LARGE


def test_ratios_are_measured_on_equal_work_only(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["_contest"], "SAME_WORK", 0.0)  # so that rounding counts as other work

    with pytest.raises(SystemExit, match="not the same work, so nothing is timed"):
        gpu.ratios("eager", Device(), gpu.DRY, gpu.Figures())


def test_figures_are_stored_as_they_are_measured(
    gpu: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = gpu.Figures(tmp_path / "gpu.json")

    gpu.speed("eager", Device(), gpu.DRY, figures)

    stored = json.loads((tmp_path / "gpu.json").read_text())
    assert list(stored) == ["conv-1shot eager", "sine-maml eager"]
    assert stored["sine-maml eager"]["tasks_per_second"] > 0
    assert "tasks/s" in capsys.readouterr().out


def test_probe_measures_every_way_to_compute_a_layer(gpu: Any, tmp_path: Path) -> None:
    import gpu_probe

    probe = gpu_probe.Probe(Device(), on_gpu=False, path=tmp_path / "probe.json")
    probe.note("layer", lambda: dict(gpu_probe.convolutions(probe, 2, 64, 7)))
    probe.note("none", lambda: 1 / 0)

    stored = json.loads((tmp_path / "probe.json").read_text())
    assert len(stored["layer"]) == 9 * len(gpu_probe.FORMATS)
    assert all(figures["flops_per_second"] > 0 for figures in stored["layer"].values())
    assert stored["none"] == "ZeroDivisionError: division by zero"


def test_ways_of_the_probe_compute_the_same(gpu: Any) -> None:
    import gpu_probe

    ways = gpu_probe.ways(gpu_probe.Probe(Device(), False, None), "ieee", 2, 64, 7)
    grouped = ways["output grouped"]().view(5, 2, 64, 4, 4)
    by_task = ways["output bmm"]().view(2, 64, 5, 4, 4).permute(2, 0, 1, 3, 4)
    assert torch.allclose(grouped, by_task, atol=1e-3)
    kernels = ways["gradient of kernels grouped"]()[1].view(2, 64, -1)
    assert torch.allclose(kernels, ways["gradient of kernels bmm"](), atol=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_first_run_goes_through_every_step_without_a_gpu(tmp_path: Path) -> None:
    done = first_run(tmp_path, "doctor tests probe gpu plain cells scaling compiled")

    for name in ("doctor", "tests", "probe", "gpu", "plain", "cells", "scaling", "compiled"):
        assert f"== {name}: exit status 0" in done, done
    assert {path.name for path in tmp_path.iterdir()} == {
        "log.txt", "tests.xml", "probe.json", "gpu.json", "plain.json", "compiled.json",
        "results.tgz",
    }  # fmt: skip


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_first_run_begins_no_step_without_time_left(tmp_path: Path) -> None:
    done = first_run(tmp_path, "doctor compiled", total=10)

    assert "== doctor: not begun" in done
    assert "== compiled: not begun" in done
    assert "probe" not in done


def first_run(out: Path, steps: str, total: int = 465) -> str:
    """What the script of a first run prints in its dry mode."""
    environment = {
        **os.environ, "OUT": str(out), "STEPS": steps, "TOTAL": str(total), "DRY_RUN": "1",
        "PYTHON": sys.executable,
    }  # fmt: skip
    command = ["bash", str(FOLDER / "gpu_first_run.sh"), "no-wheels"]
    return subprocess.run(
        command, env=environment, text=True, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ).stdout


@pytest.mark.skipif(make(Cuda).available() is None, reason="this machine has a GPU to measure")
def test_machine_without_gpu_gets_the_reason() -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "gpu.py"), "--quick"], capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 1
    assert done.stderr.startswith(f"benchmarks/gpu.py measures a GPU: {make(Cuda).available()}")
    assert "Traceback" not in done.stderr
