"""Runs cells on this machine, one after the other, so that no cell disturbs the clock of another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import psutil

from metabench import Executor, setting
from metabench.records import Job, Outcome, writing
from metabench_plugins.executors import _supervisor
from metabench_plugins.executors._supervisor import NOT_STARTED, marked_processes

SUPERVISOR = (sys.executable, "-P", str(Path(_supervisor.__file__)))


@dataclass(frozen=True, kw_only=True)
class Local(Executor):
    """Runs cells on this machine, one after the other."""

    name: ClassVar[str] = "local"
    grace_seconds: float = setting(3.0, "time between asking a process to end and killing it", at_least=0)

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """One outcome per job, in order; closing the iterator ends the running job with all its processes."""
        for job in jobs:
            yield self._run(job)

    def _run(self, job: Job) -> Outcome:
        started = time.monotonic()
        token = uuid.uuid4().hex
        with writing(job.log):
            log = job.log.open("w+b")
        with log:
            try:
                supervisor = subprocess.Popen(
                    SUPERVISOR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0,
                    start_new_session=True,  # Ctrl-C reaches the runner alone, which then ends the job
                )  # fmt: skip
            except OSError as error:
                log.write(f"{SUPERVISOR[0]}: cannot be started: {error.strerror}\n".encode())
                return Outcome(job, NOT_STARTED, False, time.monotonic() - started)
        with supervisor:
            try:
                end = self._supervise(supervisor, job, token)
            finally:  # also when the user interrupts, or the iterator is closed
                _close(supervisor)
        if end is None:  # the supervisor was killed, and the command with it; what it left is not
            end = {"exit_code": supervisor.returncode, "timed_out": False}
            for process in marked_processes(token):
                with suppress(psutil.Error):
                    process.kill()
        return Outcome(job, end["exit_code"], end["timed_out"], time.monotonic() - started)

    def _supervise(self, supervisor: subprocess.Popen[bytes], job: Job, token: str) -> dict[str, Any] | None:
        """Hand the job over and wait for its end; None where the supervisor ended without a word."""
        assert supervisor.stdin is not None and supervisor.stdout is not None  # noqa: PT018 - for the types
        order = {
            "argv": job.argv, "environment": dict(job.environment), "timeout": job.timeout,
            "grace_seconds": self.grace_seconds, "folder": str(job.folder), "token": token,
        }  # fmt: skip
        with suppress(BrokenPipeError):
            line = memoryview(json.dumps(order).encode() + b"\n")
            while line:
                line = line[os.write(supervisor.stdin.fileno(), line) :]
        answer = b""
        while not answer.endswith(b"\n") and (data := os.read(supervisor.stdout.fileno(), 2**10)):
            answer += data
        return json.loads(answer) if answer.endswith(b"\n") else None


def _close(supervisor: subprocess.Popen[bytes]) -> None:
    """Let the supervisor end its job, if that still runs, and wait until it has."""
    assert supervisor.stdin is not None
    supervisor.stdin.close()
    supervisor.wait()
