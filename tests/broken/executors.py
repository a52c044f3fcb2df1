"""Executors with one fault each, and a sound one."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from metabench import (
    Executor,
    setting,
)
from metabench.plugins import load
from metabench.records.job import Job, Outcome
from metabench.settings import make


@dataclass(frozen=True, kw_only=True)
class FaultyExecutor(Executor):
    """The local executor, with a fault."""

    name: ClassVar[str] = "faulty"
    fault: str = setting("", "which")

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        local = make(load().find("executor", "local").cls)
        if self.fault == "list":
            return iter(list(local.run(jobs)))
        return self._run(local, jobs)

    def _run(self, local: Executor, jobs: Iterable[Job]) -> Iterator[Outcome]:
        if self.fault == "orphans":
            jobs = (replace(job, timeout=None) if job.timeout else job for job in jobs)
            yield from (self._orphaned(local, job) for job in jobs)
            return
        if self.fault == "leaves children":
            yield from (self._without_its_children(local, job) for job in jobs)
            return
        if self.fault == "environment":
            jobs = (replace(job, environment={"METABENCH_CHECK": "no"}) for job in jobs)
        for outcome in local.run(jobs):
            if self.fault == "codes" and outcome.exit_code == 3:
                outcome = replace(outcome, exit_code=0)
            if self.fault == "timed out":
                outcome = replace(outcome, timed_out=False)
            if self.fault != "loses" or outcome.exit_code != -9:
                yield outcome

    def _without_its_children(self, local: Executor, job: Job) -> Outcome:
        if job.id != "leaves":
            (outcome,) = local.run([job])
            return outcome
        with job.log.open("wb") as log:
            ended = subprocess.run(job.argv, stdout=log, env={**os.environ, **job.environment})
        return Outcome(job, ended.returncode, False, 0.1)

    def _orphaned(self, local: Executor, job: Job) -> Outcome:
        if job.id != "slow":
            (outcome,) = local.run([job])
            return outcome
        with job.log.open("wb") as log:
            process = subprocess.Popen(job.argv, stdout=log, env={**os.environ, **job.environment})
            time.sleep(2)
            process.kill()  # its child lives on
            process.wait()
        return Outcome(job, -9, True, 2.1)
