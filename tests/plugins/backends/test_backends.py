"""Each backend checks for its hardware, applies its settings, and records them in the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metabench.contracts import Backend
from metabench.device import host
from metabench.plugins import load
from metabench.settings import describe_settings, make
from metabench_plugins.backends import _gpus as gpus
from metabench_plugins.backends.cpu import Cpu
from metabench_plugins.backends.cpu_ranks import CpuRanks
from metabench_plugins.backends.cuda import Cuda
from metabench_plugins.backends.cuda_ranks import CudaRanks, communication

BACKENDS = [
    entry.cls for entry in load().entries("backend").values() if entry.plugin.distribution == "metabench"
]


def in_process(code: str, variables: dict[str, str] | None = None) -> Any:
    """What this code prints as JSON, in a process of its own: a backend changes the process that opens it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120,
        env=os.environ | (variables or {}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_four_backends_come_with_metabench() -> None:
    assert {cls.name for cls in BACKENDS} == {"cpu", "cpu-ranks", "cuda", "cuda-ranks"}


@pytest.mark.parametrize("cls", BACKENDS, ids=lambda cls: cls.name)
def test_precision_and_determinism_are_settings_of_every_backend(cls: type[Backend]) -> None:
    settings = {option.name: option for option in describe_settings(cls)}

    assert settings["precision"].default == "float32"
    assert settings["deterministic"].default is False
    assert all(option.help for option in settings.values())


@pytest.mark.parametrize("cls", BACKENDS, ids=lambda cls: cls.name)
def test_looking_for_hardware_imports_no_torch_without_a_gpu(cls: type[Backend]) -> None:
    if gpus.why_no_gpus(1) is None:
        pytest.skip("this machine has a GPU, for which torch is imported")
    code = (
        "import json, sys\nfrom metabench.plugins import load\nfrom metabench.settings import make\n"
        f"backend = make(load().find('backend', {cls.name!r}).cls)\n"
        "backend.available(); backend.command(['python', 'x.py'])\nprint(json.dumps('torch' in sys.modules))"
    )

    assert in_process(code) is False


@pytest.mark.parametrize("cls", [Cuda, CudaRanks])
def test_machine_without_driver_gives_that_reason(
    cls: type[Backend], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpus, "DRIVER_FILES", (tmp_path / "absent",))
    monkeypatch.setenv("PATH", str(tmp_path))

    assert make(cls).available() == "this machine has no NVIDIA driver"


def test_deterministic_gpu_gets_a_fixed_workspace() -> None:
    _, variables = make(Cuda, {"deterministic": True}).command(["python"])

    assert variables["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.parametrize(
    ("report", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
         "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder)\n",
         "570.86.15"),
        ("something else\n", None),
    ],
)  # fmt: skip
def test_version_of_the_driver_needs_no_extra(report: str, version: str | None, tmp_path: Path) -> None:
    (tmp_path / "version").write_text(report)

    assert gpus.driver_version(tmp_path / "version") == version
    assert gpus.driver_version(tmp_path / "absent") is None


def test_gradients_that_go_over_the_host_are_labelled() -> None:
    assert communication(share=False, local_ranks=2, gpus=2) == "nccl"
    assert communication(share=True, local_ranks=2, gpus=1) == "gloo (ranks share a GPU)"
    assert communication(share=True, local_ranks=2, gpus=2) == "gloo"


HOST = {"machine": "amd-epyc-2-cores", "processor": "AMD EPYC", "cores": 2}


def test_machines_with_other_gpus_are_other_machines() -> None:
    def name(gpu: dict[str, Any], facts: dict[str, Any] = HOST) -> Any:
        return host.describe({"machine": "login"}, facts, {"device": "cuda:0", **gpu})["machine"]

    assert name({}) == "amd-epyc-2-cores"
    assert name({"gpu": "NVIDIA H100", "gpus": 1}) == "amd-epyc-2-cores-with-1-nvidia-h100"
    assert name({"gpu": "NVIDIA H200", "gpus": 8}) == "amd-epyc-2-cores-with-8-nvidia-h200"
    assert name({"gpu": "NVIDIA H100", "gpus": 1}, HOST | {"machine": "my-server"}) == "my-server"


@pytest.mark.parametrize(
    ("limit", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None)]
)
def test_quota_of_a_container_counts_as_its_cores(
    limit: str, cores: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(host, "CPU_QUOTA", tmp_path / "absent")
    unlimited = host.usable_cores()
    (tmp_path / "cpu.max").write_text(limit + "\n")
    monkeypatch.setattr(host, "CPU_QUOTA", tmp_path / "cpu.max")

    assert host.usable_cores() == (cores or unlimited)
    assert host.machine().endswith(f"-{cores or unlimited}-cores")


OPENED = """
import json, os, torch
from metabench.settings import make
from metabench_plugins.backends.cpu import Cpu
environments = []
for settings in json.loads(os.environ["SETTINGS"]):
    with make(Cpu, settings).open() as device:
        with device.numerics():
            product = torch.ones(2, 2, dtype=device.dtype) @ torch.ones(2, 2, dtype=device.dtype)
        environments.append(device.environment() | {
            "product": str(product.dtype), "cores": sorted(os.sched_getaffinity(0)),
            "strict": torch.are_deterministic_algorithms_enabled()})
print(json.dumps(environments))
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

    for environment, (precision, (dtype, product)) in zip(opened, wanted.items(), strict=True):
        assert (environment["precision"], environment["dtype"], environment["product"]) == (
            precision,
            dtype,
            product,
        )
        assert (environment["threads"], environment["cores"], environment["strict"]) == (2, [core], True)
        assert environment["deterministic"] is True


def test_cpu_takes_one_thread_per_core_where_none_is_asked_for() -> None:
    _, variables = make(Cpu).command(["python"])

    assert variables["OMP_NUM_THREADS"] == str(host.usable_cores())
    assert make(Cpu, {"affinity": [0], "threads": 0}).command(["python"])[1]["OMP_NUM_THREADS"] == "1"


def test_absent_core_is_named() -> None:
    reason = make(Cpu, {"affinity": [0, 4095]}).available()

    assert reason is not None
    assert reason.startswith("no core 4095 for this process")


BOUND = """
import json, os, sys
from pathlib import Path
from metabench.settings import make
from metabench_plugins.backends.cpu_ranks import CpuRanks
with make(CpuRanks, json.loads(sys.argv[2])).open() as device:
    cores = sorted(os.sched_getaffinity(0))
    Path(sys.argv[1], f"{device.rank}.json").write_text(json.dumps([cores, device.environment()["affinity"]]))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_each_rank_keeps_to_its_own_cores(tmp_path: Path) -> None:
    there = sorted(os.sched_getaffinity(0))
    if len(there) < 2:
        pytest.skip("two ranks need two cores")
    affinity = [there[1], there[0]]
    settings: dict[str, Any] = {"ranks": 2, "threads": 1, "affinity": affinity, "oversubscribe": True}
    (tmp_path / "rank.py").write_text(BOUND)
    argv = [sys.executable, str(tmp_path / "rank.py"), str(tmp_path), json.dumps(settings)]
    command, variables = make(CpuRanks, settings).command(argv)

    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    for rank, core in enumerate(affinity):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == [[core], affinity]


LIMITED = """
import json, torch
from metabench.device.memory import out_of_memory
from metabench.settings import make
from metabench_plugins.backends.cpu import Cpu
with make(Cpu, {"memory_gib": 0.25, "threads": 2}).open() as device:
    held = torch.ones(40 << 20, dtype=torch.uint8)
    recognised = []
    for ask in (lambda: torch.ones(300 << 20, dtype=torch.uint8), lambda: bytearray(300 << 20)):
        try:
            ask()
        except Exception as error:
            recognised.append(out_of_memory(error))
print(json.dumps(recognised))
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
