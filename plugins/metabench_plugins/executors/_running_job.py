"""A job under its supervisor, as the process sees it that started both."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from metabench.records import Job, Outcome, writing
from metabench_plugins.executors import _supervisor
from metabench_plugins.executors._supervisor import NOT_STARTED, marked_processes

SUPERVISOR = (sys.executable, "-P", str(Path(_supervisor.__file__)))


class RunningJob:
    """A job that runs on this machine; leaving the block, or the death of this process, ends all of it.

    grace_seconds: between asking a process of the job to end and killing it.
    """

    def __init__(self, job: Job, grace_seconds: float) -> None:
        self.job, self.started, self.token = job, time.monotonic(), uuid.uuid4().hex
        self.answer = b""
        self.supervisor: subprocess.Popen[bytes] | None = None
        self.order = {
            "argv": job.argv, "environment": dict(job.environment), "timeout": job.timeout,
            "grace_seconds": grace_seconds, "folder": str(job.folder), "token": self.token,
        }  # fmt: skip

    def __enter__(self) -> RunningJob:
        with writing(self.job.log):
            log = self.job.log.open("w+b")
        with log:
            try:
                self.supervisor = subprocess.Popen(
                    SUPERVISOR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0,
                    start_new_session=True,  # Ctrl-C reaches the runner alone, which then ends the job
                )  # fmt: skip
            except OSError as error:
                log.write(f"{SUPERVISOR[0]}: cannot be started: {error.strerror}\n".encode())
                return self
        try:
            self._hand_over(self.supervisor)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def wait(self, seconds: float | None = None) -> Outcome | None:
        """Return how the job ended; None where it still runs after so many seconds."""
        if self.supervisor is None:
            return self._outcome(NOT_STARTED)
        assert self.supervisor.stdout is not None
        pipe = self.supervisor.stdout.fileno()
        while not self.answer.endswith(b"\n"):
            if seconds is not None and not select.select([pipe], [], [], seconds)[0]:
                return None
            data = os.read(pipe, 2**10)
            if not data:
                return self._outcome_without_supervisor(self.supervisor)
            self.answer += data
        end: dict[str, Any] = json.loads(self.answer)
        self._close()
        return self._outcome(end["exit_code"], end["timed_out"])

    def _hand_over(self, supervisor: subprocess.Popen[bytes]) -> None:
        assert supervisor.stdin is not None
        line = memoryview(json.dumps(self.order).encode() + b"\n")
        with suppress(BrokenPipeError):
            while line:
                line = line[os.write(supervisor.stdin.fileno(), line) :]

    def _outcome_without_supervisor(self, supervisor: subprocess.Popen[bytes]) -> Outcome:
        """The supervisor was killed, and the command with it; what it left is ended here."""
        self._close()
        for process in marked_processes(self.token):
            with suppress(psutil.Error):
                process.kill()
        return self._outcome(supervisor.returncode)

    def _outcome(self, exit_code: int | None, timed_out: bool = False) -> Outcome:
        return Outcome(self.job, exit_code, timed_out, time.monotonic() - self.started)

    def _close(self) -> None:
        """Let the supervisor end its job, if that still runs, and wait until it has."""
        if self.supervisor is None:
            return
        assert self.supervisor.stdin is not None and self.supervisor.stdout is not None  # noqa: PT018 - types
        self.supervisor.stdin.close()
        self.supervisor.wait()
        self.supervisor.stdout.close()
