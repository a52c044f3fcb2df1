"""Runs cells on this machine, one after the other, so that no cell disturbs the clock of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from metabench import Executor, setting
from metabench.records import Job, Outcome
from metabench_plugins.executors._running_job import RunningJob


@dataclass(frozen=True, kw_only=True)
class Local(Executor):
    """Runs cells on this machine, one after the other."""

    name: ClassVar[str] = "local"
    grace_seconds: float = setting(3.0, "time between asking a process to end and killing it", at_least=0)

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """One outcome per job, in order; closing the iterator ends the running job with all its processes."""
        for job in jobs:
            with RunningJob(job, self.grace_seconds) as running:
                outcome = running.wait()
            assert outcome is not None  # without a limit it waits for the end
            yield outcome
