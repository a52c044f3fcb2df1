"""The executor `local`: real commands that leave processes, flood their log, or lose their supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from metabench.records import Job, Outcome
from metabench_plugins.executors._supervisor import CappedLog, cut_rank_logs
from metabench_plugins.executors.local import Local

CHILD = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "MARK"])
"""

DAEMON = """
import os, subprocess, sys, time
if os.fork() == 0:
    os.setsid()
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "MARK"])
    os._exit(0)
os.wait()
"""

HOLD = """
import ctypes, os, sys
print("holds", flush=True)
ctypes.PyDLL(None).sleep(600)  # in C, without giving up the interpreter's lock
"""


def job(folder: Path, program: str, timeout: float | None = None) -> Job:
    """A job that runs this Python program; MARK in it is the name of the folder."""
    folder.mkdir(exist_ok=True)
    argv = (sys.executable, "-c", program.replace("MARK", str(folder)), str(folder))
    return Job("job", folder, argv, {}, timeout, {})


def ran(folder: Path, program: str, timeout: float | None = None) -> Outcome:
    (outcome,) = Local(grace_seconds=0.2).run([job(folder, program, timeout)])
    return outcome


def processes(folder: Path) -> list[psutil.Process]:
    """Processes that name this folder."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if str(folder) in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def wait_for(true: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


@pytest.mark.parametrize("program", [CHILD, DAEMON], ids=["child", "daemon"])
@pytest.mark.parametrize("sleep", ["", "time.sleep(600)"], ids=["ends", "times-out"])
def test_no_process_outlives_its_job(tmp_path: Path, program: str, sleep: str) -> None:
    outcome = ran(tmp_path / "job", f"{program}\nimport time\n{sleep}", 3.0 if sleep else None)

    assert outcome.timed_out == bool(sleep)
    assert processes(tmp_path / "job") == []


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    outcome = ran(
        tmp_path / "job",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
        1.5,
    )

    assert (outcome.exit_code, outcome.timed_out) == (-signal.SIGKILL, True)
    assert processes(tmp_path / "job") == []


@pytest.mark.parametrize("program", [HOLD, DAEMON + "time.sleep(600)"], ids=["holds-the-lock", "daemon"])
def test_no_process_outlives_a_runner_that_is_killed(tmp_path: Path, program: str) -> None:
    folder = tmp_path / "job"
    runner = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r});"
         f"from test_local import ran; from pathlib import Path; ran(Path({str(folder)!r}), {program!r})"],
    )  # fmt: skip
    try:
        wait_for(lambda: len(processes(folder)) >= (1 if program is HOLD else 2))
    finally:
        runner.kill()
        runner.wait()

    wait_for(lambda: processes(folder) == [])


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends the command only on Linux")
def test_killed_supervisor_is_one_outcome_and_leaves_no_process(tmp_path: Path) -> None:
    outcome = ran(tmp_path / "job", f"{DAEMON}os.kill(os.getppid(), 9)\n" + HOLD)

    assert outcome.exit_code == -signal.SIGKILL
    wait_for(lambda: processes(tmp_path / "job") == [])


def test_a_log_keeps_its_first_and_its_last_lines(tmp_path: Path) -> None:
    lines = "import sys\nfor n in range(700_000): print(f'line {n:06}')\nsys.exit(3)"

    outcome = ran(tmp_path / "job", lines)

    text = outcome.job.log.read_text()
    assert outcome.exit_code == 3
    assert text.startswith("line 000000\nline 000001\n")
    assert text.endswith("line 699998\nline 699999\n")
    assert len(text) < 2**20 * 3.1
    head, _, tail = text.partition("\n[")
    left_out, _, tail = tail.partition(" bytes are left out here]\n")
    assert len(head) + int(left_out) + len(tail) == 700_000 * len("line 000000\n")


def test_a_capped_log_says_how_much_is_left_out(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b") as file:
        log = CappedLog(file.fileno(), head=10, tail=10)
        for _ in range(10):
            log.write(b"0123456789")

    text = (tmp_path / "log").read_text()
    head, note, *tail = text.split("\n")
    assert head == "0123456789"
    assert note.endswith("bytes are left out here]")
    assert "".join(tail) == "0123456789" * (len(tail[0]) // 10)
    assert int(note[1:].split()[0]) + 10 + len(tail[0]) == 100


def test_files_of_torchrun_beyond_a_size_are_cut(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "attempt_0" / "0"
    folder.mkdir(parents=True)
    with (folder / "stdout.log").open("wb", buffering=0) as file:
        file.write(b"x" * 2**20)
        cut_rank_logs(tmp_path, most=2**19)
        file.write(b"last")

    assert os.stat(folder / "stdout.log").st_blocks * 512 < 2**19
    assert (folder / "stdout.log").read_bytes().endswith(b"last")
