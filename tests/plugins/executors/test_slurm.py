"""Cells on a Slurm cluster: what is asked for, what comes back, and what is cancelled.

submitit's own stand-in runs the cells on this machine; what Slurm is asked for is read from the script that
its `sbatch` gets. Where the real commands are in PATH, the contract is checked on the real cluster as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from helpers.shell import Shell, shell_environment
from metabench.errors import RequestError
from metabench.records.job import Job
from metabench.settings import make
from metabench.testing import check_executor
from metabench_plugins.backends.cpu import Cpu
from metabench_plugins.backends.cuda_ranks import CudaRanks
from metabench_plugins.executors.slurm import Slurm

pytest.importorskip("submitit")

SBATCH = """#!/bin/sh
cp "$1" {script}
echo "sbatch: error: invalid partition specified: absent" >&2
exit 1
"""
SUITE = """
name = "sent"
version = 1
[defaults]
algorithm = {name = "maml", inner_rate = 0.01}
network = "mlp"
dataset = "sinusoid"
test = {ways = 1, shots = 4, queries = 4}
budget = {steps = 2, tasks = 2}
evaluation = {tasks = 4}
[[cells]]
backend = {name = "cpu", threads = 1}
seeds = [0, 1]
[[cells]]
backend = {name = "cpu-ranks", ranks = 64, threads = 64}
seeds = [0]
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script that `sbatch` was given; from here on it copies the script there, and refuses it."""
    path, commands = tmp_path / "script", tmp_path / "bin"
    commands.mkdir()
    for name in ("sbatch", "srun", "scancel", "squeue"):
        (commands / name).write_text(SBATCH.format(script=path))
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    return path


@pytest.mark.slow
def test_it_keeps_the_contract_of_executors() -> None:
    check_executor(Slurm(stand_in=True), timeout=3)


def has_cluster() -> bool:
    """Whether a real Slurm answers here."""
    if shutil.which("srun") is None or shutil.which("sinfo") is None:
        return False
    try:
        return subprocess.run(["sinfo"], capture_output=True, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:  # its controller is down
        return False


@pytest.mark.skipif(not has_cluster(), reason="needs a Slurm cluster")
@pytest.mark.slow
def test_it_keeps_the_contract_on_a_real_cluster() -> None:
    check_executor(Slurm(minutes=5), timeout=3, patience=60)


@pytest.mark.parametrize(
    ("executor", "resources", "options"),
    [
        (Slurm(), {"threads": 2}, ["--cpus-per-task=2", "--time=240", "--array=0-1%2"]),
        (Slurm(parallel=1), {"ranks": 4, "threads": 3}, ["--cpus-per-task=12", "--array=0-1%1"]),
        (Slurm(), {"threads": 0}, ["--exclusive"]),  # as many as the machine has
        (Slurm(), {"ranks": 2, "threads": 1, "gpus": 2}, ["--cpus-per-task=2", "--gpus-per-node=2"]),
        (
            Slurm(partition="gpu", account="us", minutes=60, options=("--constraint=h100", "--requeue")),
            {"threads": 1},
            ["--partition=gpu", "--account=us", "--time=60", "--constraint=h100", "--requeue"],
        ),
    ],
)
def test_cells_that_ask_for_the_same_are_one_array_with_what_they_ask_for(
    script: Path, tmp_path: Path, executor: Slurm, resources: dict[str, object], options: list[str]
) -> None:
    jobs = [Job(name, tmp_path / "jobs" / name, ("true",), {}, None, resources) for name in ("a", "b")]

    with pytest.raises(RequestError, match=r"(?s)Slurm refuses the cells.*invalid partition specified"):
        list(executor.run(jobs))

    lines = script.read_text().splitlines()
    assert [option for option in options if f"#SBATCH {option}" not in lines] == []
    assert not (tmp_path / "jobs").exists()  # nothing of submitit stays


def test_containers_are_for_the_step(script: Path, tmp_path: Path) -> None:
    job = Job("a", tmp_path / "jobs" / "a", ("true",), {}, None, {})
    with pytest.raises(RequestError, match="Slurm refuses"):
        list(Slurm(srun=("--container-image=images/metabench.sqsh",)).run([job]))

    (step,) = [line for line in script.read_text().splitlines() if line.startswith("srun")]
    assert "--container-image=images/metabench.sqsh" in step


def test_backends_say_how_many_gpus_a_machine_must_have(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(Cpu).gpus == 0
    assert make(CudaRanks, {"ranks": 8}).gpus == 8
    assert make(CudaRanks, {"ranks": 8, "share": True}).gpus == 1
    monkeypatch.setenv("METABENCH_NODES", "2")
    monkeypatch.setenv("METABENCH_RENDEZVOUS", "first:29400")
    assert make(CudaRanks, {"ranks": 8}).gpus == 4


def test_cells_of_several_machines_are_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Slurm.unavailable() is None
    monkeypatch.setenv("METABENCH_NODES", "2")

    assert "unset METABENCH_NODES; see docs/hardware.md" in str(Slurm.unavailable())


@pytest.mark.slow
def test_a_suite_runs_as_arrays_and_each_cell_finds_out_about_its_machine(tmp_path: Path) -> None:
    (tmp_path / "sent.toml").write_text(SUITE)
    shell = Shell(tmp_path, {**shell_environment(), "METABENCH_MACHINE": "node-7"})

    done = shell.run("run", "sent.toml", "--executor", "slurm:stand_in=true")

    results = shell.results("sent-v1")
    assert sorted(result.status for result in results) == ["ok", "ok", "skipped"]
    assert "is sent" in done.stderr
    assert {result.environment["machine"] for result in results} == {"node-7"}
    (skipped,) = (result for result in results if result.status == "skipped")
    assert "64 ranks of 64 threads need 4096 cores" in skipped.reason
    assert not list((tmp_path / "results").rglob("submitit-*"))


def test_without_slurm_the_request_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(RequestError, match="no Slurm here: sbatch, scancel, squeue must be in PATH"):
        list(Slurm().run([]))
