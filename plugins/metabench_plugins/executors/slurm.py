"""Sends cells to a Slurm cluster by submitit: as job arrays, without processes on the login machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metabench import Executor, setting
from metabench.errors import RequestError
from metabench.records import Job, Outcome
from metabench_plugins.executors._on_node import End, run_on_node

POLL_SECONDS, LOOK_SECONDS, CANCEL_SECONDS = 0.2, 10.0, 0.5
ARRIVAL_SECONDS = 60.0
"""How long a result may take to be seen here, on a network file system, once Slurm has done with a cell."""
GONE = "the cell is gone and left no result: its machine died, it was cancelled, or its time was over"
GRACE_SECONDS = 30.0
"""How long cancelled cells may take to be gone."""
LOST = 1
"""The exit code of a cell that Slurm ended; its log says how."""


@dataclass(frozen=True, kw_only=True)
class Slurm(Executor):
    """Sends cells to a Slurm cluster as job arrays, with the cores and GPUs that their backends ask for.

    Cells that ask for the same are one array. The results folder, the installation and the data must be
    visible there under the same paths. A cell's `--timeout` and its clocks begin when it starts, not while it
    waits. An interrupt cancels what was sent. Slurm may start a preempted cell again; it goes on from its
    checkpoint.
    """

    name: ClassVar[str] = "slurm"
    remote: ClassVar[bool] = True

    parallel: int = setting(16, "cells of an array that run at once", at_least=1)
    partition: str = setting("", "partition to send cells to (none: the cluster's default)")
    account: str = setting("", "account that pays (none: your default)")
    minutes: int = setting(240, "time that Slurm is asked for, for each cell", at_least=1)
    exclusive: bool = setting(
        False, "a machine for each cell alone, so that nothing else on it disturbs the clock"
    )
    options: tuple[str, ...] = setting((), "more options of sbatch, such as --constraint=h100 or --qos=long")
    srun: tuple[str, ...] = setting((), "options of the step, such as --container-image=IMAGE")
    stand_in: bool = setting(False, "run on this machine without Slurm, as a trial: all cells at once")
    grace_seconds: float = setting(3.0, "time between asking a process to end and killing it", at_least=0)

    @classmethod
    def unavailable(cls) -> str | None:
        """The reason where submitit is not installed, or a cell is to run on several machines."""
        if os.environ.get("METABENCH_NODES", "1") not in ("", "1"):
            return (
                "it runs a cell on one machine: unset METABENCH_NODES; see docs/hardware.md, several machines"
            )
        if importlib.util.find_spec("submitit") is None:
            return 'no submitit here: pip install "metabench[slurm]"'
        return None

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """One outcome per job, as they end; closing the iterator cancels every job that was sent."""
        self._require_cluster()
        sent: dict[Any, tuple[Job, float]] = {}  # by the job of submitit
        queue = None if self.stand_in else _Queue()
        folders: list[Path] = []
        try:
            for array in _alike(jobs):
                folders.append(_log_folder(array[0]))
                submissions = self._submit(array, folders[-1])
                sent |= {step: (job, time.monotonic()) for step, job in zip(submissions, array, strict=True)}
            while sent:
                ended = queue.ended(list(sent)) if queue else [step for step in sent if step.done()]
                for step in ended:
                    yield self._outcome(step, *sent.pop(step))
                if not ended:
                    time.sleep(POLL_SECONDS)
        finally:  # also when the user interrupts, or the iterator is closed
            _cancel(list(sent), queue)
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # jobs that failed are kept
                    folder.parent.rmdir()

    def _require_cluster(self) -> None:
        missing = [name for name in ("sbatch", "scancel", "squeue") if shutil.which(name) is None]
        if missing and not self.stand_in:
            raise RequestError(
                f"no Slurm here: {', '.join(missing)} must be in PATH; run on the login machine, "
                "or try it with slurm:stand_in=true"
            )

    def _submit(self, array: list[Job], folder: Path) -> list[Any]:
        import submitit

        executor = submitit.AutoExecutor(folder, cluster="local" if self.stand_in else "slurm")
        executor.update_parameters(**self._parameters(array[0].resources))
        orders = [
            {
                "id": job.id, "folder": str(job.folder.resolve()), "argv": job.argv,
                "environment": dict(job.environment), "timeout": job.timeout,
            }
            for job in array
        ]  # fmt: skip
        try:
            return list(executor.map_array(run_on_node, orders, [self.grace_seconds] * len(orders)))
        except submitit.core.utils.FailedJobError as error:
            raise RequestError(f"Slurm refuses the cells: {error}") from error

    def _parameters(self, resources: Mapping[str, Any]) -> dict[str, Any]:
        """What sbatch is asked for; a cell that takes every core gets a whole machine."""
        threads = int(resources.get("threads", 1)) or len(resources.get("affinity", ()))
        options = dict(option.lstrip("-").partition("=")[::2] for option in self.options)
        return {
            "name": "metabench", "nodes": 1, "tasks_per_node": 1, "timeout_min": self.minutes,
            "cpus_per_task": threads * int(resources.get("ranks", 1)) or None,
            "gpus_per_node": int(resources.get("gpus", 0)) or None,
            "slurm_array_parallelism": self.parallel,
            "slurm_partition": self.partition or None,
            "slurm_account": self.account or None,
            "slurm_exclusive": True if self.exclusive or not threads else None,
            "slurm_additional_parameters": {key: value or True for key, value in options.items()},
            "slurm_srun_args": list(self.srun),
        }  # fmt: skip

    def _outcome(self, step: Any, job: Job, started: float) -> Outcome:
        error = step.exception() if step.paths.result_pickle.exists() else GONE
        if error is None:
            end: End = step.result()
            return Outcome(job, *end)
        with job.log.open("a", encoding="utf-8") as log:
            log.write(f"\nSlurm: {error}\n{step.stderr() or ''}\n")
        return Outcome(job, LOST, "timed-out" in str(error), time.monotonic() - started)


class _Queue:
    """Which cells Slurm still has: asked of `squeue`, which every cluster has, with accounting or without."""

    def __init__(self) -> None:
        self.asked = -LOOK_SECONDS
        self.missing: dict[str, float] = {}  # by Slurm's number, since when it has not had the cell

    def ended(self, steps: list[Any]) -> list[Any]:
        """Return the steps that left a result, and those that Slurm has not had for ARRIVAL_SECONDS."""
        now = time.monotonic()
        if now - self.asked > LOOK_SECONDS:
            self.asked = now
            self._look({step.job_id for step in steps}, now)
        arrived = {name for folder in {step.paths.folder for step in steps} for name in os.listdir(folder)}
        return [
            step
            for step in steps
            if step.paths.result_pickle.name in arrived  # a listing asks the file server
            or now - self.missing.get(step.job_id, now) > ARRIVAL_SECONDS
        ]

    def holds(self, steps: list[Any]) -> bool:
        """Return whether Slurm still has one of these steps."""
        numbers = self._numbers()
        return numbers is None or any(step.job_id in numbers for step in steps)

    def _look(self, numbers: set[str], now: float) -> None:
        present = self._numbers()
        if present is not None:
            self.missing = {number: self.missing.get(number, now) for number in numbers - present}

    def _numbers(self) -> set[str] | None:
        """Slurm's numbers of all that you have there; None where its controller does not answer just now."""
        argv = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
        answer = subprocess.run(argv, capture_output=True, text=True)
        return set(answer.stdout.split()) if answer.returncode == 0 else None


def _alike(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs that ask for the same, together."""
    arrays: dict[str, list[Job]] = {}
    for job in jobs:
        arrays.setdefault(repr(sorted(job.resources.items())), []).append(job)
    return list(arrays.values())


def _log_folder(job: Job) -> Path:
    """A folder beside that of a job, which every machine sees."""
    return job.folder.resolve().parent / f"submitit-{uuid.uuid4().hex[:12]}"


def _cancel(steps: list[Any], queue: _Queue | None) -> None:
    """Cancel steps, and wait until they are gone; queue: None where submitit stands in for Slurm."""
    for step in steps:
        step.cancel(check=False)
    end = time.monotonic() + GRACE_SECONDS
    while steps and time.monotonic() < end:
        if not (queue.holds(steps) if queue else any(not step.done() for step in steps)):
            return
        time.sleep(CANCEL_SECONDS)
