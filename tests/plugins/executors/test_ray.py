"""Cells on a Ray cluster: three nodes on this machine, one of which dies in the middle of a cell."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from helpers.shell import Shell, shell_environment
from metabench.records import Job
from metabench_plugins.executors._ray_task import Mailbox, Order, run_order
from metabench_plugins.executors.ray import Ray

SUITE = """
name = "far"
version = 1
[defaults]
algorithm = {name = "maml", inner_rate = 0.01}
network = "mlp"
dataset = "sinusoid"
test = {ways = 1, shots = 4, queries = 4}
budget = {steps = 20, tasks = 4}
evaluation = {tasks = 4}
[[cells]]
backend = {name = "cpu", threads = 1}
seeds = [0, 1, 2]
[[cells]]
backend = {name = "cpu-ranks", ranks = 64, threads = 64}
seeds = [0]
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of three nodes with a core each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    nodes = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        for _ in range(2):
            nodes.add_node(num_cpus=1)
        yield nodes
    finally:
        nodes.shutdown()


def family(node: Any) -> list[psutil.Process]:
    """The processes of a node: its raylet, and all below it."""
    (raylet,) = node.all_processes["raylet"]
    process = psutil.Process(raylet.process.pid)
    return [process, *process.children(recursive=True)]


def runs(node: Any, text: str) -> bool:
    """Whether the command line of a process of this node has this text."""
    return any(text in " ".join(process.cmdline()) for process in family(node))


def kill_while_it_runs(node: Any, text: str, still: Callable[[], bool]) -> None:
    """Kill a node with all of its processes as soon as a command with this text runs there."""
    while still() and not runs(node, text):
        time.sleep(0.05)
    for process in family(node):
        process.kill()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_job_has_one_outcome_though_a_node_dies(cluster: Any, tmp_path: Path) -> None:
    program = "import os, time; print(os.getcwd(), flush=True); time.sleep(5)"
    jobs = [
        Job(name, tmp_path / name, (sys.executable, "-c", program, "far-job"), {}, None, {"threads": 1})
        for name in ("a", "b", "c", "d")
    ]
    victim = sorted(cluster.worker_nodes, key=str)[0]
    killer = threading.Thread(target=kill_while_it_runs, args=(victim, "far-job", lambda: True))
    killer.start()

    outcomes = list(Ray(address=cluster.address).run(jobs))

    killer.join()
    assert sorted((outcome.job.id, outcome.exit_code) for outcome in outcomes) == [
        ("a", 0), ("b", 0), ("c", 0), ("d", 0),
    ]  # fmt: skip
    assert all(job.log.read_text().strip() for job in jobs)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_cell_has_one_result_though_a_node_dies(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "far.toml").write_text(SUITE)
    shell = Shell(tmp_path, shell_environment())
    argv = shell.argv("run", "far.toml", "--executor", f"ray:address={cluster.address}")
    command = subprocess.Popen(argv, cwd=tmp_path, env=shell.environment, stderr=subprocess.PIPE, text=True)
    try:
        victim = cluster.add_node(num_cpus=1)
        kill_while_it_runs(victim, "metabench.worker", lambda: command.poll() is None)
        _, errors = command.communicate(timeout=1200)
    finally:
        command.kill()

    results = shell.results("far-v1")
    assert command.returncode == 0, errors
    assert len({result.cell.digest for result in results}) == len(results) == 4
    assert sorted(str(result.status) for result in results) == ["ok", "ok", "ok", "skipped"]
    assert any("64 ranks of 64 threads need 4096 cores" in result.reason for result in results)


PROGRAM = """
import sys
with open(sys.argv[1], "r+") as checkpoint, open(sys.argv[2], "w") as result:
    print(checkpoint.read())
    checkpoint.write(", continued")
    result.write("scores")
"""


def test_a_job_finds_its_files_where_it_runs_and_sends_home_what_it_wrote() -> None:
    home, checkpoint, python = "/nowhere/jobs/cell", "/nowhere/checkpoints/cell", "/nowhere/python"
    argv = (python, "-c", PROGRAM, checkpoint, f"{home}/result.json")
    order = Order("cell", argv, {}, None, 1.0, home, python, {checkpoint: b"begun"}, checkpoint)
    mailbox = Mailbox()

    end = run_order(order, SimpleNamespace(put=SimpleNamespace(remote=mailbox.put)))

    assert (end.exit_code, end.timed_out) == (0, False)
    assert end.files == {"log": b"begun\n", "result.json": b"scores"}
    assert end.checkpoint == b"begun, continued"
    assert {piece.name for piece in mailbox.take()} <= {"log"}
