"""torchrun starts the ranks, on one node or two; a rank that falls ends all of them in bounded time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from metabench.errors import SettingError
from metabench.settings import make
from metabench_plugins.backends.cpu_ranks import CpuRanks
from metabench_plugins.backends.torchrun import loopback

RANK = """
import json, os, signal, sys, time
from pathlib import Path
import torch
from metabench.settings import make
from metabench_plugins.backends.cpu_ranks import CpuRanks

folder, settings, fate = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
with make(CpuRanks, settings).open() as device:
    Path(folder, f"{device.rank}.pid").write_text(str(os.getpid()))
    weights = torch.zeros(3, requires_grad=True)
    weights.grad = torch.full((3,), float(device.rank + 1))
    device.average_gradients([weights], 0.5)
    told = {"world": device.world_size, "gradient": weights.grad.tolist(),
            "gathered": device.gather([device.rank]), "environment": device.environment(),
            "omp": os.environ["OMP_NUM_THREADS"]}
    Path(folder, f"{device.rank}.json").write_text(json.dumps(told))
    if device.rank == 1 and fate == "raises":
        raise ValueError("the words of rank one")
    if device.rank == 1 and fate == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if device.rank == 1 and fate == "hangs":
        time.sleep(1000)
    device.slowest(1.0)
"""


def start(folder: Path, settings: dict[str, Any], fate: str = "ends") -> subprocess.Popen[str]:
    """The ranks of this backend as `metabench run` would start them, with a script as their worker."""
    (folder / "rank.py").write_text(RANK)
    arguments = [sys.executable, str(folder / "rank.py"), str(folder), json.dumps(settings), fate]
    command, environment = make(CpuRanks, settings).command(arguments)
    return subprocess.Popen(
        command, env=os.environ | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def told(folder: Path, rank: int) -> Any:
    return json.loads((folder / f"{rank}.json").read_text())


def left_over(folder: Path) -> list[int]:
    """Ranks that still run."""
    pids = [int(path.read_text()) for path in folder.glob("*.pid")]
    return [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]


def test_ranks_of_one_node_share_the_gradient_and_write_nothing(tmp_path: Path) -> None:
    settings = {"ranks": 2, "threads": 1, "oversubscribe": True}

    process = start(tmp_path, settings)
    log, _ = process.communicate(timeout=120)

    assert (process.returncode, log) == (0, "")
    for rank in range(2):
        here = told(tmp_path, rank)
        assert here["world"] == 2
        assert here["gradient"] == [1.5, 1.5, 1.5]
        assert here["gathered"] == [[0.0], [1.0]]
        assert (here["omp"], here["environment"]["threads"]) == ("1", 1)


@pytest.mark.parametrize(
    ("fate", "last_words"),
    [
        ("raises", "ValueError: the words of rank one"),
        ("dies", "Signal 9 (SIGKILL) received by PID"),
        ("hangs", "Timed out waiting 3000ms"),
    ],
)
def test_rank_that_falls_ends_all_with_its_own_last_words(tmp_path: Path, fate: str, last_words: str) -> None:
    process = start(tmp_path, {"ranks": 2, "timeout_seconds": 3.0, "oversubscribe": True}, fate)
    log, _ = process.communicate(timeout=100)

    assert process.returncode == 1
    root_cause = log[log.rindex("Root Cause") :]
    assert last_words in root_cause
    assert ("rank      : 0" if fate == "hangs" else "rank      : 1") in root_cause
    assert left_over(tmp_path) == []


def test_two_agents_of_torchrun_meet_as_two_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", loopback() or "")  # this machine's name may not resolve
    settings = {"ranks": 2, "nnodes": 2, "rdzv_endpoint": f"127.0.0.1:{port}", "rdzv_id": "test"}

    agents = [start(tmp_path, settings) for _ in range(2)]
    logs = [agent.communicate(timeout=120)[0] for agent in agents]

    assert [agent.returncode for agent in agents] == [0, 0], logs
    assert told(tmp_path, 0)["gradient"] == told(tmp_path, 1)["gradient"] == [1.5, 1.5, 1.5]
    assert told(tmp_path, 0)["environment"]["nodes"] == 2


def test_more_threads_than_cores_are_no_backend_unless_asked_for() -> None:
    reason = make(CpuRanks, {"ranks": 512}).available()

    assert reason is not None
    assert "512 ranks of 1 threads need 512 cores" in reason
    assert make(CpuRanks, {"ranks": 512, "oversubscribe": True}).available() is None


def test_ranks_that_nodes_cannot_share_are_refused() -> None:
    with pytest.raises(SettingError, match="3 ranks on 2 nodes"):
        make(CpuRanks, {"ranks": 3, "nnodes": 2, "rdzv_endpoint": "host:1"})
    with pytest.raises(SettingError, match="rdzv_endpoint"):
        make(CpuRanks, {"ranks": 2, "nnodes": 2})


def test_torchrun_keeps_its_logs_in_the_folder_of_the_job(tmp_path: Path) -> None:
    job = tmp_path / "job.json"

    command, _ = make(CpuRanks, {"ranks": 2}).command([sys.executable, "-m", "metabench.worker", str(job)])

    assert f"--log-dir={tmp_path / 'torchrun'}" in command
    assert command[-3:] == ["-m", "metabench.worker", str(job)]
