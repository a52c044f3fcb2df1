"""torchrun starts the ranks, on one node or two; a rank that fails ends all of them in bounded time."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.results import made_cell
from helpers.shell import ROOT, Shell
from metabench.errors import SettingError, SuiteError
from metabench.records.cell import Status
from metabench.records.result import Result
from metabench.runner import make_plan
from metabench.runner.rank_failures import GREETING, find_rank_failure
from metabench.settings import make
from metabench_plugins.backends._torchrun import loopback
from metabench_plugins.backends.cpu_ranks import CpuRanks

TWO = """
name = "two"
version = 1
[[cells]]
algorithm = "reptile"
network = "mlp"
dataset = "sinusoid"
test = {ways = 1, shots = 4, queries = 4}
budget = {steps = 4, tasks = 4}
evaluation = {tasks = 6}
"""
CELL = made_cell("maml", 0)
SUMMARY = """
Failures:
[1]:
  time      : 2026-11-24_10:00:01
  host      : localhost
  rank      : {second[0]} (local_rank: {second[0]})
  exitcode  : {second[1]} (pid: 12)
  error_file: <N/A>
  traceback : …
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-24_10:00:00
  host      : localhost
  rank      : {first[0]} (local_rank: {first[0]})
  exitcode  : {first[1]} (pid: 11)
  error_file: <N/A>
  traceback : …
"""

RANK = """
import json, os, sys
from pathlib import Path
import torch
from metabench.settings import make
from metabench_plugins.backends.cpu_ranks import CpuRanks

folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
with make(CpuRanks, settings).open() as device:
    Path(folder, f"{device.rank}.pid").write_text(str(os.getpid()))
    weights = torch.zeros(3, requires_grad=True)
    weights.grad = torch.full((3,), float(device.rank + 1))
    device.average_gradients([weights], 0.5)
    report = {"world": device.world_size, "gradient": weights.grad.tolist(),
            "gathered": device.gather([device.rank]), "environment": device.environment(),
            "omp": os.environ["OMP_NUM_THREADS"]}
    Path(folder, f"{device.rank}.json").write_text(json.dumps(report))
    device.slowest(1.0)
"""


def start(folder: Path, settings: dict[str, Any]) -> subprocess.Popen[str]:
    """The ranks of this backend as `metabench run` would start them, with a script as their worker."""
    (folder / "rank.py").write_text(RANK)
    arguments = [sys.executable, str(folder / "rank.py"), str(folder), json.dumps(settings)]
    command, environment = make(CpuRanks, settings).command(arguments)
    return subprocess.Popen(
        command, env=os.environ | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def report(folder: Path, rank: int) -> Any:
    return json.loads((folder / f"{rank}.json").read_text())


def left_over(folder: Path) -> list[int]:
    """Processes that name something in this folder."""
    pids = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()):
            pids.append(process.info["pid"])
    return pids


def awaited(folder: Path, pattern: str) -> Path:
    """The file that will be there."""
    end = time.monotonic() + 120
    while not (paths := list(folder.glob(pattern))):
        assert time.monotonic() < end, f"{folder} has no {pattern}"
        time.sleep(0.1)
    return paths[0].resolve()


def test_ranks_of_one_node_share_the_gradient_and_write_nothing(tmp_path: Path) -> None:
    settings = {"ranks": 2, "threads": 1, "oversubscribe": True}

    process = start(tmp_path, settings)
    log, _ = process.communicate(timeout=120)

    assert process.returncode == 0
    assert [line for line in log.splitlines() if not line.startswith(GREETING)] == []
    for rank in range(2):
        here = report(tmp_path, rank)
        assert here["world"] == 2
        assert here["gradient"] == [1.5, 1.5, 1.5]
        assert here["gathered"] == [[0.0], [1.0]]
        assert (here["omp"], here["environment"]["threads"]) == ("1", 1)


@pytest.mark.slow
def test_rank_that_fails_is_named_with_its_own_last_lines_and_no_rank_is_left(shell: Shell) -> None:
    fates = ("raise", "kill", "sleep")
    head, _, _ = (ROOT / "tests/toy_package/toy_metabench/suites/mishaps.toml").read_text().partition("[[")
    cells = (f'[[cells]]\nalgorithm = {{name = "mishap", how = "{how}", on_rank = 1}}\n' for how in fates)
    (shell.folder / "fates.toml").write_text(head.replace('"mishaps"', '"fates"') + "".join(cells))
    backend = "cpu-ranks:ranks=2,oversubscribe=true,timeout_seconds=5"

    shell.run("run", "fates.toml", "--backend", backend, "--quiet", check=1)

    results = {r.cell.algorithm.settings["how"]: r for r in shell.results("fates-v1")}
    assert {how: r.status for how, r in results.items()} == dict.fromkeys(fates, "failed")
    assert results["raise"].reason == "RuntimeError: the toy broke (rank 1)"
    assert results["raise"].log_tail[-1] == "RuntimeError: the toy broke"
    assert results["kill"].reason == "rank 1 was ended by SIGKILL"
    assert results["kill"].signal == "SIGKILL"
    assert results["kill"].log_tail == ("about to be killed",)
    assert results["sleep"].reason.startswith("rank 1 did not answer: ")
    assert "Timed out waiting 5000ms" in results["sleep"].reason
    assert "falls asleep" in results["sleep"].log_tail
    assert any("learners.py" in line and "in learn" in line for line in results["sleep"].log_tail)
    assert all(r.environment["cores"] and r.started for r in results.values())
    assert left_over(shell.folder) == []


def test_killed_rank_after_one_that_raised_is_not_the_cause() -> None:
    raised = Result(CELL, Status.FAILED, "ValueError: broken", ("ValueError: broken",))
    log = SUMMARY.format(first=(0, 1), second=(1, -9))

    failure = find_rank_failure({0: raised}, log, ranks=2)

    assert failure is not None
    assert (failure.reason, failure.signal) == ("ValueError: broken (rank 0)", None)


def test_rank_that_ends_without_a_result_is_named() -> None:
    failure = find_rank_failure(
        {}, "[rank 1]:last\n" + SUMMARY.format(first=(1, 3), second=(0, -15)), ranks=2
    )

    assert failure is not None
    assert failure.reason == "rank 1 ended with exit status 3 and left no result"
    assert failure.log_tail == ("last",)


def test_several_ranks_that_do_not_answer_are_named() -> None:
    waited = Result(CELL, Status.FAILED, "RuntimeError: Timed out waiting 5000ms")

    failure = find_rank_failure({1: waited}, SUMMARY.format(first=(1, 1), second=(0, -15)), ranks=3)

    assert failure is not None
    assert failure.reason == "ranks 0, 2 did not answer: RuntimeError: Timed out waiting 5000ms (rank 1)"


def test_two_machines_run_the_documented_commands(tmp_path: Path) -> None:
    """Both machines are this one; the commands are those of docs/hardware.md, with other names filled in."""
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "docs/hardware.md").read_text(), flags=re.DOTALL)
    first, second = (block.replace("\\\n", " ") for block in blocks if "first:29400" in block)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    names = {"quick --only group=scaling": "two.toml --timeout 200 --results .", "first:29400": endpoint,
             "ranks=4": "ranks=4,oversubscribe=true"}  # fmt: skip
    for name, here in names.items():
        assert name in first
        first = first.replace(name, here)
    variables, _, arguments = first.partition("metabench ")
    (tmp_path / "two.toml").write_text(TWO)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = dict(variable.split("=", 1) for variable in variables.split())
    # this machine's name may not resolve, for which the page names the interface
    named = {"GLOO_SOCKET_IFNAME": loopback() or "", "PATH": path}
    shell = Shell(tmp_path, os.environ | own | named)

    with subprocess.Popen(
        shell.argv(*shlex.split(arguments)), cwd=tmp_path, env=shell.environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as runner:  # fmt: skip
        job = awaited(tmp_path / "two-v1/jobs", "*/job.json")
        second = second.replace("RESULTS/SUITE-vN/jobs/CELL/job.json", str(job))
        second = second.replace("first:29400", endpoint)
        subprocess.run(second, shell=True, check=True, timeout=200, cwd=tmp_path, env=os.environ | named)
        output, _ = runner.communicate(timeout=60)

    assert runner.returncode == 0, output
    (result,) = shell.results("two-v1", ".")
    assert result.status == "ok"
    assert (result.environment["ranks"], result.environment["nodes"]) == (4, 2)
    assert result.environment["machine"].endswith("-2-machines")
    assert not {"nnodes", "rdzv_endpoint", "rdzv_id"} & result.cell.backend.settings.keys()


def test_more_threads_than_cores_are_no_backend_unless_asked_for() -> None:
    reason = make(CpuRanks, {"ranks": 512}).available()

    assert reason is not None
    assert "512 ranks of 1 threads need 512 cores" in reason
    assert make(CpuRanks, {"ranks": 512, "oversubscribe": True}).available() is None


def test_ranks_that_machines_cannot_divide_and_machines_that_cannot_meet_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("METABENCH_NODES", "2")
    with pytest.raises(SettingError, match="METABENCH_NODES=2 needs METABENCH_RENDEZVOUS"):
        make(CpuRanks).available()
    monkeypatch.setenv("METABENCH_RENDEZVOUS", "host:1")
    assert make(CpuRanks, {"ranks": 3}).available() == (
        "3 ranks on 2 machines: METABENCH_NODES must divide the ranks"
    )
    monkeypatch.setenv("METABENCH_NODES", "two")
    with pytest.raises(SettingError, match="METABENCH_NODES must be a number of machines ≥ 1, got 'two'"):
        make(CpuRanks).available()


@pytest.mark.parametrize("setting", ["nnodes = 2", 'rdzv_endpoint = "host:1"', 'rdzv_id = "x"'])
@pytest.mark.parametrize("backend", ["cpu-ranks", "cuda-ranks"])
def test_no_file_names_another_machine(tmp_path: Path, backend: str, setting: str) -> None:
    text = TWO + f'backend = {{name = "{backend}", {setting}}}\n'
    (tmp_path / "two.toml").write_text(text)

    with pytest.raises(SuiteError, match=f"'{backend}' has no setting '{setting.split()[0]}'"):
        make_plan(str(tmp_path / "two.toml"), results=tmp_path)


def test_torchrun_keeps_its_logs_in_the_folder_of_the_job(tmp_path: Path) -> None:
    job = tmp_path / "job.json"

    command, _ = make(CpuRanks, {"ranks": 2}).command([sys.executable, "-m", "metabench.worker", str(job)])

    assert f"--log-dir={tmp_path / 'torchrun'}" in command
    assert command[-3:] == ["-m", "metabench.worker", str(job)]
