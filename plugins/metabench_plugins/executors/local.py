"""Runs cells on this machine, one after the other, so that no cell disturbs the clock of another."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

import psutil

from metabench import Executor, setting
from metabench.records import Job, Outcome, writing

POLL_SECONDS = 0.02
NOT_STARTED = 127  # the exit status that a shell gives a command which it cannot start


@dataclass(frozen=True, kw_only=True)
class Local(Executor):
    """Runs cells on this machine, one after the other."""

    name: ClassVar[str] = "local"
    grace_seconds: float = setting(3.0, "time between asking a process to end and killing it", at_least=0)

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """One outcome per job, in order; closing the iterator ends the running job with all its processes."""
        own = psutil.Process()
        parent = f"{own.pid}:{own.create_time()}"
        for job in jobs:
            yield self._run(job, {**os.environ, "METABENCH_PARENT": parent, **job.environment})

    def _run(self, job: Job, environment: dict[str, str]) -> Outcome:
        started = time.monotonic()
        timed_out = False
        with writing(job.log):
            log = job.log.open("wb")
        with log:
            try:
                process = subprocess.Popen(
                    job.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,  # Ctrl-C reaches the runner alone, which then ends this process
                )
            except OSError as error:
                log.write(f"{job.argv[0]}: cannot be started: {error.strerror}\n".encode())
                return Outcome(job, NOT_STARTED, False, time.monotonic() - started)
            try:
                while process.poll() is None:
                    timed_out = job.timeout is not None and time.monotonic() - started > job.timeout
                    if timed_out:
                        break
                    time.sleep(POLL_SECONDS)
            finally:  # also when the user interrupts, or the iterator is closed
                self._end(process)
        return Outcome(job, process.returncode, timed_out, time.monotonic() - started)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End the process and everything it started: SIGTERM first, SIGKILL after the grace time."""
        if process.poll() is not None:
            return
        try:
            family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        except psutil.NoSuchProcess:
            family = []
        for member in family:
            _quietly(member.terminate)
        _, alive = psutil.wait_procs(family, timeout=self.grace_seconds)
        for member in alive:
            _quietly(member.kill)
        process.wait()


def _quietly(end: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        end()
