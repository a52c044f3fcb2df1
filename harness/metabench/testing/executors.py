"""`check_executor`: real small commands that fail, are killed, leave a child, or take too long with one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from metabench.contracts import Executor
from metabench.records.job import Job, Outcome
from metabench.testing.contract_error import Subject, begin

SLEEP = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}, {mark!r}]); "
    "time.sleep(90)"
)
LEAVE = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}, {mark!r}])"
CHILD = "import time; time.sleep(90)"


def check_executor(
    executor: Executor | type[Executor], *, timeout: float = 2.0, patience: float = 20.0
) -> None:
    """Checks an executor against its whole contract with jobs of a fraction of a second.

    timeout: seconds after which it must end the job that sleeps; patience: seconds in which the processes of
    a job must be gone once it has ended.

    Raises ContractError with what is wrong and what to do; SkipTest where it cannot be used here.
    """
    executor, subject = begin("executor", executor)
    with subject.doing("run of no jobs"):
        none = executor.run(iter(()))
        subject.require(
            isinstance(none, Generator),
            "run gives no generator: yield each outcome as it ends; an interrupted runner closes it",
        )
        subject.require(not list(none), "run gives outcomes where there are no jobs")
    with TemporaryDirectory() as name:
        folder = Path(name)
        _check_ends(executor, subject, folder, timeout, patience)
        _check_closing(executor, subject, folder, patience)


def _check_ends(executor: Executor, subject: Subject, folder: Path, timeout: float, patience: float) -> None:
    mark, left = str(folder / "sleeper"), str(folder / "left")
    programs = {
        "well": "import os; print('output', os.environ['METABENCH_CHECK'])",
        "badly": "import sys; print('error', file=sys.stderr); sys.exit(3)",
        "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "leaves": LEAVE.format(child=CHILD, mark=left),
        "slow": SLEEP.format(child=CHILD, mark=mark),
    }
    taken: list[str] = []

    def jobs() -> Iterator[Job]:
        for name, program in programs.items():
            taken.append(name)
            yield _job(folder / name, program, mark, timeout if name == "slow" else None)

    with subject.doing("run(jobs)"):
        ended = {outcome.job.id: outcome for outcome in executor.run(jobs())}
    subject.require(
        sorted(ended) == sorted(programs) == sorted(taken),
        f"it gave outcomes of {sorted(ended)} for the jobs {sorted(programs)}; each job has exactly one, "
        "however it ends",
    )
    _check_outcomes(subject, ended, timeout)
    _require_gone(subject, left, patience, "a job that ended well leaves a child of its command behind")
    _require_gone(subject, mark, patience, "a job that exceeded its timeout leaves processes behind")


def _check_outcomes(subject: Subject, ended: dict[str, Outcome], timeout: float) -> None:
    well, slow = ended["well"], ended["slow"]
    codes = {name: ended[name].exit_code for name in ("well", "badly", "killed", "leaves")}
    subject.require(
        codes == {"well": 0, "badly": 3, "killed": -9, "leaves": 0},
        f"exit codes are {codes}; they are 0, 3, and -9 for a job ended by signal 9",
    )
    log = well.job.log.read_text() if well.job.log.exists() else "no file"
    subject.require(
        log.strip() == "output yes",
        f"the log of a job holds {log.strip()!r}; job.log takes the output of the command, and "
        "job.environment is added to its environment",
    )
    errors = ended["badly"].job.log
    subject.require(
        errors.exists() and "error" in errors.read_text(), "the log lacks what a job prints on standard error"
    )
    subject.require(
        slow.timed_out and not any(ended[name].timed_out for name in codes),
        "timed_out is not True for the job that exceeded its timeout, and for it alone",
    )
    subject.require(
        timeout <= slow.seconds + 0.05 and well.seconds > 0,
        f"an outcome says {slow.seconds:.2f} s for a job that was ended after {timeout:g} s",
    )


def _check_closing(executor: Executor, subject: Subject, folder: Path, patience: float) -> None:
    mark = str(folder / "closed")
    jobs = [
        _job(folder / "first", "print('done')", mark, None),
        _job(folder / "second", SLEEP.format(child=CHILD, mark=mark), mark, None),
    ]
    ends = executor.run(iter(jobs))
    assert isinstance(ends, Generator)
    with closing(ends), subject.doing("run(jobs)"):
        next(ends)
    _require_gone(subject, mark, patience, "closing the iterator of run leaves processes behind")


def _job(folder: Path, program: str, mark: str, timeout: float | None) -> Job:
    folder.mkdir()
    argv = (sys.executable, "-c", program, mark)
    return Job(folder.name, folder, argv, {"METABENCH_CHECK": "yes"}, timeout, {"ranks": 1})


def _require_gone(subject: Subject, mark: str, patience: float, what: str) -> None:
    end = time.monotonic() + patience
    while _alive(mark):
        if time.monotonic() > end:
            for process in _alive(mark):
                _quietly(process.kill)
            subject.require(False, f"{what}: end the whole family of the job's process, children included")
        time.sleep(0.1)


def _alive(mark: str) -> list[psutil.Process]:
    processes = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if mark in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            processes.append(process)
    return processes


def _quietly(end: Callable[[], None]) -> None:
    try:
        end()
    except psutil.NoSuchProcess:
        return
