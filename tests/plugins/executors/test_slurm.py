"""Cells on a Slurm cluster: what is asked for, what comes back, and what is cancelled.

The cluster is a stand-in of two commands that run everything on this machine; where the real ones are in
PATH, the contract is checked on the real cluster as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.shell import Shell
from metabench.device import host as environment
from metabench.errors import RequestError
from metabench.records.job import Job, Outcome
from metabench.runner import make_plan
from metabench.settings import make
from metabench.testing import check_executor
from metabench_plugins.backends.cpu import Cpu
from metabench_plugins.backends.cuda_ranks import CudaRanks
from metabench_plugins.executors.slurm import Slurm

SRUN = """#!{python}
import os, signal, subprocess, sys
argv = sys.argv[1:]
options = [one for one in argv if one.startswith("--")]
with open({requests!r}, "a") as file:
    print(" ".join(options), file=file)
if "--partition=absent" in options:
    sys.exit("srun: error: invalid partition specified: absent")
command = argv[len(options):]
os.environ["METABENCH_MACHINE"] = "node-7"
step = subprocess.Popen(command, start_new_session=True)
def end(number, frame):
    os.killpg(step.pid, number)
signal.signal(signal.SIGTERM, end)
code = step.wait()
sys.exit(128 - code if code < 0 else code)
"""
SCANCEL = """#!/bin/sh
exec pkill -TERM -f -- "--job-name=${1#--name=}"
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
def requests_of_srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the options of each `srun`; from here on the cluster is the stand-in."""
    path, commands = tmp_path / "requests", tmp_path / "bin"
    commands.mkdir()
    for name, text in (
        ("srun", SRUN.format(python=sys.executable, requests=str(path))),
        ("scancel", SCANCEL),
    ):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    return path


def sent(folder: Path, executor: Slurm, program: str = "pass", **resources: object) -> Outcome:
    """How one small job ended."""
    job = Job("one", folder / "one", (sys.executable, "-c", program), {}, None, {"ranks": 1, **resources})
    (outcome,) = executor.run([job])
    return outcome


def test_it_keeps_the_contract_of_executors(requests_of_srun: Path) -> None:
    check_executor(Slurm())
    check_executor(Slurm(parallel=1))


def has_cluster() -> bool:
    """Whether a real Slurm answers here."""
    if shutil.which("srun") is None or shutil.which("sinfo") is None:
        return False
    try:
        return subprocess.run(["sinfo"], capture_output=True, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:  # its controller is down
        return False


@pytest.mark.skipif(not has_cluster(), reason="needs a Slurm cluster")
def test_it_keeps_the_contract_on_a_real_cluster() -> None:
    check_executor(Slurm())


@pytest.mark.parametrize(
    ("executor", "resources", "options"),
    [
        (Slurm(), {"threads": 2}, "--cpus-per-task=2"),
        (Slurm(), {"ranks": 4, "threads": 3}, "--cpus-per-task=12"),
        (Slurm(), {"threads": 0}, "--exclusive"),  # as many as the machine has
        (Slurm(), {"threads": 0, "affinity": (0, 1)}, "--cpus-per-task=2"),
        (Slurm(), {"ranks": 2, "threads": 1, "gpus": 2}, "--cpus-per-task=2 --gpus-per-node=2"),
        (Slurm(exclusive=True), {"threads": 1}, "--cpus-per-task=1 --exclusive"),
        (
            Slurm(partition="gpu", account="us", options=("--time=60",)),
            {"threads": 1},
            "--cpus-per-task=1 --partition=gpu --account=us --time=60",
        ),
    ],
)
def test_a_cell_gets_what_its_backend_asks_for(
    requests_of_srun: Path, tmp_path: Path, executor: Slurm, resources: dict[str, object], options: str
) -> None:
    assert sent(tmp_path, executor, **resources).exit_code == 0

    head, _, name = requests_of_srun.read_text().strip().rpartition(" --job-name=metabench-")
    assert head == f"--quiet --nodes=1 --ntasks=1 {options}"
    assert len(name) == 12


def test_backends_say_how_many_gpus_a_machine_must_have(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(Cpu).gpus == 0
    assert make(CudaRanks, {"ranks": 8}).gpus == 8
    assert make(CudaRanks, {"ranks": 8, "share": True}).gpus == 1
    monkeypatch.setenv("METABENCH_NODES", "2")
    monkeypatch.setenv("METABENCH_RENDEZVOUS", "first:29400")
    assert make(CudaRanks, {"ranks": 8}).gpus == 4


def test_what_srun_refuses_is_told(requests_of_srun: Path, tmp_path: Path) -> None:
    outcome = sent(tmp_path, Slurm(partition="absent"))

    assert outcome.exit_code == 1
    assert "invalid partition specified: absent" in outcome.job.log.read_text()


def test_a_step_that_is_killed_whole_was_ended_by_that_signal(requests_of_srun: Path, tmp_path: Path) -> None:
    kill = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"  # as the kernel does, out of memory

    assert sent(tmp_path, Slurm(), kill).exit_code == -9


def test_cells_of_several_machines_are_refused_with_the_way_out(
    requests_of_srun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Slurm.unavailable() is None
    monkeypatch.setenv("METABENCH_NODES", "2")

    assert "unset METABENCH_NODES; see docs/hardware.md" in str(Slurm.unavailable())


def test_a_suite_runs_on_the_cluster_and_each_cell_tells_its_own_machine(
    requests_of_srun: Path, shell: Shell
) -> None:
    (shell.folder / "sent.toml").write_text(SUITE)
    variables = {**shell.environment, "PATH": os.environ["PATH"], "METABENCH_MACHINE": "login"}
    there = Shell(shell.folder, variables, shell.python)

    done = there.run("run", "sent.toml", "--executor", "slurm:parallel=2")

    results = {result.cell.id: result for result in there.results("sent-v1")}
    assert sorted(result.status for result in results.values()) == ["ok", "ok", "skipped"]
    assert "is sent" in done.stderr
    for result in results.values():
        if result.status == "ok":
            assert result.environment["machine"] == "node-7"
            assert result.environment["git"] == environment.provenance()["git"]  # of the one that sent it
            assert 0 <= result.setup["start"] < 30
        else:  # found out by the machine of the cluster, not by the one that sent it
            assert "64 ranks of 64 threads need 4096 cores" in result.reason
    assert len(requests_of_srun.read_text().splitlines()) == 3


def test_without_slurm_the_request_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(RequestError, match="executor 'slurm': no Slurm here"):
        make_plan("sine", executor="slurm")
