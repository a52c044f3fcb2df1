"""Any process of a run is killed at any moment: nothing is lost, no process is left, the next run goes on."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from helpers.shell import Shell
from metabench.records.files import read_result

SUITE = """
name = "kills"
version = 1
[defaults]
network = "toy-linear"
dataset = "toy-lines"
test = {ways = 1, shots = 4, queries = 4}
budget = {steps = 20, tasks = 4}
evaluation = {tasks = 20}
[[cells]]
algorithm = "toy-mean"
seeds = [0, 1, 2]
"""
BACKENDS = {1: "cpu:threads=1", 2: "cpu-ranks:ranks=2,threads=1,oversubscribe=true"}
GONE_SECONDS = 20.0


def stored(folder: Path) -> dict[str, str]:
    """The status of each result by its file; a file that cannot be read fails the test."""
    return {path.name: read_result(path).status for path in folder.glob("*.json")}


def alive(family: list[psutil.Process]) -> list[psutil.Process]:
    running = []
    for process in family:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
        except psutil.NoSuchProcess:
            continue
    return running


def workers(folder: Path) -> list[psutil.Process]:
    """Processes whose command line names something in this folder."""
    listed = psutil.process_iter(["cmdline"])
    return alive([p for p in listed if any(str(folder) in part for part in p.info["cmdline"] or ())])


def family_of(runner: subprocess.Popen[str]) -> list[psutil.Process]:
    process = psutil.Process(runner.pid)
    return [process, *process.children(recursive=True)]


def kill_one(shell: Shell, arguments: list[str], delay: float, choose: random.Random) -> str:
    """Run the suite, kill one of its processes after `delay` seconds; return which, if the run still ran."""
    folder = shell.folder / "results/local/kills-v1"
    runner = subprocess.Popen(
        shell.argv(*arguments), cwd=shell.folder, env=shell.environment, stderr=subprocess.DEVNULL, text=True
    )
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            runner.wait(delay)
            return ""
        family = family_of(runner)
        victim = choose.choice(family)
        named = " ".join(victim.cmdline()[1:4])
        before = stored(folder)
        victim.kill()
        runner.wait(120)
    except psutil.NoSuchProcess:  # it ended by itself just then
        runner.wait(120)
        return ""
    finally:
        runner.kill()
        runner.wait()
    end = time.monotonic() + GONE_SECONDS
    while (left := alive(family) + workers(shell.folder)) and time.monotonic() < end:
        time.sleep(0.05)
    assert left == [], f"after {named} was killed"
    after = stored(folder)
    assert before.items() <= after.items(), f"after {named} was killed"
    if victim.pid != runner.pid:
        assert len(after) == 3, f"after {named} was killed"  # the run went on, with one result for each cell
        assert set(after.values()) <= {"ok", "failed"}
    else:
        assert runner.returncode == -signal.SIGKILL
    return named


def check_kills(shell: Shell, ranks: int, kills: int, seed: int) -> list[str]:
    """Kill so many processes of runs on so many ranks; return what was killed."""
    (shell.folder / "kills.toml").write_text(SUITE)
    arguments = ["run", "kills.toml", "--quiet", "--timeout", "60", "--backend", BACKENDS[ranks]]
    start = time.monotonic()
    shell.run(*arguments)
    duration = time.monotonic() - start
    choose, killed = random.Random(seed), list[str]()
    folder = shell.folder / "results/local/kills-v1"
    while len(killed) < kills:
        shutil.rmtree(folder)
        start, delay = time.monotonic(), choose.uniform(0.0, duration)
        named = kill_one(shell, arguments, delay, choose)
        if named:
            killed.append(named)
            print(f"kill {len(killed)} on {ranks} ranks after {delay:.1f} s: {named[-60:]}", flush=True)
        else:  # it had ended before
            duration = min(duration, time.monotonic() - start)
        shell.run(*arguments)
        assert set(stored(folder).values()) == {"ok"}
        assert len(stored(folder)) == 3
    return killed


@pytest.mark.parametrize("ranks", BACKENDS)
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thirty_kills_at_random_moments_lose_nothing_and_leave_no_process(shell: Shell, ranks: int) -> None:
    killed = check_kills(shell, ranks, kills=30, seed=int(os.environ.get("KILLS_SEED", "0")))

    assert len(killed) == 30
