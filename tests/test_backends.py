"""Each backend says what is there, sets what it was asked for, and tells it in the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metabench.contracts import Backend
from metabench.plugins import load
from metabench.settings import explain, make
from metabench_plugins.backends import cores, gpus
from metabench_plugins.backends.cpu import Cpu
from metabench_plugins.backends.cuda import Cuda
from metabench_plugins.backends.cuda_ranks import CudaRanks

BACKENDS = [
    entry.cls for entry in load().entries("backend").values() if entry.plugin.distribution == "metabench"
]


def in_process(code: str, environment: dict[str, str] | None = None) -> Any:
    """What this code prints as JSON, in a process of its own: a backend changes the process that opens it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120,
        env=os.environ | (environment or {}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_four_backends_come_with_metabench() -> None:
    assert {cls.name for cls in BACKENDS} == {"cpu", "cpu-ranks", "cuda", "cuda-ranks"}


@pytest.mark.parametrize("cls", BACKENDS, ids=lambda cls: cls.name)
def test_precision_and_determinism_are_settings_of_every_backend(cls: type[Backend]) -> None:
    settings = {one.name: one for one in explain(cls)}

    assert settings["precision"].default == "float32"
    assert settings["deterministic"].default is False
    assert all(one.help for one in settings.values())


@pytest.mark.parametrize("cls", BACKENDS, ids=lambda cls: cls.name)
def test_asking_what_is_there_needs_no_torch_where_there_is_no_gpu(cls: type[Backend]) -> None:
    if gpus.why_no_gpus(1) is None:
        pytest.skip("this machine has a GPU, for which torch is asked")
    code = (
        "import json, sys\nfrom metabench.plugins import load\nfrom metabench.settings import make\n"
        f"backend = make(load().find('backend', {cls.name!r}).cls)\n"
        "backend.available(); backend.command(['python', 'x.py'])\nprint(json.dumps('torch' in sys.modules))"
    )

    assert in_process(code) is False


@pytest.mark.parametrize("cls", [Cuda, CudaRanks])
def test_machine_without_driver_says_so(
    cls: type[Backend], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpus, "DRIVER_FILES", (tmp_path / "absent",))
    monkeypatch.setenv("PATH", str(tmp_path))

    assert make(cls).available() == "this machine has no NVIDIA driver"


def test_deterministic_gpu_gets_a_fixed_workspace() -> None:
    _, environment = make(Cuda, {"deterministic": True}).command(["python"])

    assert environment["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


OPENED = """
import json, os, torch
from metabench.settings import make
from metabench_plugins.backends.cpu import Cpu
told = []
for settings in json.loads(os.environ["SETTINGS"]):
    with make(Cpu, settings).open() as device:
        with device.numerics():
            product = torch.ones(2, 2, dtype=device.dtype) @ torch.ones(2, 2, dtype=device.dtype)
        told.append(device.environment() | {
            "product": str(product.dtype), "cores": sorted(os.sched_getaffinity(0)),
            "strict": torch.are_deterministic_algorithms_enabled()})
print(json.dumps(told))
"""


def test_cpu_computes_in_the_precision_asked_for() -> None:
    core = sorted(os.sched_getaffinity(0))[-1]
    wanted = {
        "float32": ("float32", "torch.float32"),
        "float64": ("float64", "torch.float64"),
        "bf16": ("float32", "torch.bfloat16"),
    }
    common = {"threads": 2, "affinity": [core], "deterministic": True}

    opened = in_process(OPENED, {"SETTINGS": json.dumps([common | {"precision": p} for p in wanted])})

    for told, (precision, (dtype, product)) in zip(opened, wanted.items(), strict=True):
        assert (told["precision"], told["dtype"], told["product"]) == (precision, dtype, product)
        assert (told["threads"], told["cores"], told["strict"]) == (2, [core], True)
        assert told["deterministic"] is True


def test_cpu_takes_one_thread_per_core_where_none_is_asked_for() -> None:
    _, environment = make(Cpu).command(["python"])

    assert environment["OMP_NUM_THREADS"] == str(cores.usable_cores())
    assert make(Cpu, {"affinity": [0], "threads": 0}).command(["python"])[1]["OMP_NUM_THREADS"] == "1"


def test_core_that_is_not_there_is_named() -> None:
    reason = make(Cpu, {"affinity": [0, 4095]}).available()

    assert reason is not None
    assert reason.startswith("no core 4095 for this process")


LIMITED = """
import json, torch
from metabench.device import out_of_memory
from metabench.settings import make
from metabench_plugins.backends.cpu import Cpu
with make(Cpu, {"memory_gib": 0.25, "threads": 2}).open() as device:
    held = torch.ones(40 << 20, dtype=torch.uint8)
    told = []
    for ask in (lambda: torch.ones(300 << 20, dtype=torch.uint8), lambda: bytearray(300 << 20)):
        try:
            ask()
        except Exception as error:
            told.append(out_of_memory(error))
print(json.dumps(told))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_allocation_beyond_the_limit_of_memory_raises_and_less_does_not() -> None:
    assert in_process(LIMITED) == [True, True]


def test_limit_of_memory_ends_a_cell_as_out_of_memory(tmp_path: Path) -> None:
    suite = tmp_path / "large.toml"
    suite.write_text(
        'name = "large"\nversion = 1\n[[cells]]\nalgorithm = "maml"\ndataset = "sinusoid"\n'
        'network = {name = "mlp", hidden = [30000, 30000]}\n'  # 3.4 GiB in one piece
        "test = {ways = 1, shots = 5, queries = 5}\nbudget = {steps = 2, tasks = 1}\n"
        "evaluation = {tasks = 2}\n"
        'backend = {name = "cpu", threads = 1, memory_gib = 0.5}\nexpect = ["out-of-memory"]\n'
    )
    command = [
        sys.executable,
        "-m",
        "metabench.cli",
        "run",
        str(suite),
        "--results",
        str(tmp_path),
        "--quiet",
    ]

    done = subprocess.run(command, timeout=200, cwd=tmp_path, capture_output=True, text=True)

    (path,) = (tmp_path / "large-v1").glob("*.json")
    result = json.loads(path.read_bytes())
    assert (result["status"], done.returncode) == ("out-of-memory", 0), (result["reason"], done.stderr)
