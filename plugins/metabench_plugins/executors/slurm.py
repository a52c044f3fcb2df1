"""Sends cells to a cluster: one step of Slurm's `srun` for each, several at a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from metabench import Executor, setting
from metabench.records import Job, Outcome
from metabench_plugins.executors._on_node import ENDED, ORDER

POLL_SECONDS = 0.1
ARRIVAL_SECONDS = 60.0
"""How long a file of another machine may take to be seen here, on a network file system."""
GRACE_SECONDS = 10.0
"""How long `srun` gets to end by itself once its job is cancelled."""
SRUN_LOG = "srun.log"


@dataclass(frozen=True, kw_only=True)
class Slurm(Executor):
    """Sends each cell to a machine of a Slurm cluster, with the cores and GPUs that its backend asks for.

    The results folder, the installation and the data must be visible there under the same paths. A cell's
    time limit and its clocks begin when it starts, not while it waits. An interrupt cancels what was sent.
    """

    name: ClassVar[str] = "slurm"
    remote: ClassVar[bool] = True

    parallel: int = setting(16, "cells that are sent at once, waiting or running", at_least=1)
    partition: str = setting("", "partition to send cells to (none: the cluster's default)")
    account: str = setting("", "account that pays (none: your default)")
    exclusive: bool = setting(
        False, "a machine for each cell alone, so that nothing else on it disturbs the clock"
    )
    options: tuple[str, ...] = setting((), "more options of srun, such as --time=120 or --constraint=h100")
    grace_seconds: float = setting(3.0, "time between asking a process to end and killing it", at_least=0)

    @classmethod
    def unavailable(cls) -> str | None:
        """The reason where Slurm is not at hand, or a cell is to run on several machines."""
        if os.environ.get("METABENCH_NODES", "1") not in ("", "1"):
            return (
                "it runs a cell on one machine: unset METABENCH_NODES; see docs/hardware.md, several machines"
            )
        if shutil.which("srun") is None or shutil.which("scancel") is None:
            return "no Slurm here: its commands srun and scancel are not in PATH; run on the login machine"
        return None

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """One outcome per job, as they end; closing the iterator cancels every job that was sent."""
        name = f"metabench-{uuid.uuid4().hex[:12]}"
        waiting, sent = iter(jobs), list[_SentJob]()
        more = True
        try:
            while more or sent:
                while more and len(sent) < self.parallel:
                    job = next(waiting, None)
                    more = job is not None
                    if job is not None:
                        sent.append(self._send(job, name))
                ended = [sent_job for sent_job in sent if sent_job.ended()]
                for sent_job in ended:
                    sent.remove(sent_job)
                    yield sent_job.outcome()
                if not ended:
                    time.sleep(POLL_SECONDS)
        finally:  # also when the user interrupts, or the iterator is closed
            _cancel(name, [sent_job.step for sent_job in sent])

    def _send(self, job: Job, name: str) -> _SentJob:
        order = {
            "id": job.id, "argv": job.argv, "environment": dict(job.environment), "timeout": job.timeout,
            "grace_seconds": self.grace_seconds,
        }  # fmt: skip
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / ENDED).unlink(missing_ok=True)
        (job.folder / ORDER).write_text(json.dumps(order), encoding="utf-8")
        argv = [*self._srun(job.resources), f"--job-name={name}", sys.executable, "-m",
                "metabench_plugins.executors._on_node", str(job.folder.resolve())]  # fmt: skip
        with (job.folder / SRUN_LOG).open("wb") as log:
            step = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the runner alone, which then cancels the job
            )
        return _SentJob(job, step, time.monotonic())

    def _srun(self, resources: Mapping[str, Any]) -> list[str]:
        """The options that give a cell its cores and GPUs; one that takes every core gets a whole machine."""
        threads = int(resources.get("threads", 1)) or len(resources.get("affinity", ()))
        argv = ["srun", "--quiet", "--nodes=1", "--ntasks=1"]
        if threads:
            argv.append(f"--cpus-per-task={threads * int(resources.get('ranks', 1))}")
        if resources.get("gpus"):
            argv.append(f"--gpus-per-node={resources['gpus']}")
        if self.exclusive or not threads:
            argv.append("--exclusive")
        argv += [f"--partition={self.partition}"] if self.partition else []
        argv += [f"--account={self.account}"] if self.account else []
        return [*argv, *self.options]


@dataclass
class _SentJob:
    """A job that was sent, and the `srun` that waits for it since `started` (a monotonic clock)."""

    job: Job
    step: subprocess.Popen[bytes]
    started: float
    returned: float | None = None

    def ended(self) -> bool:
        """Whether `srun` has returned, and what the machine of the cluster wrote has arrived."""
        code = self.step.poll()
        if code is None:
            return False
        self.returned = self.returned or time.monotonic()
        late = time.monotonic() - self.returned > ARRIVAL_SECONDS
        return code != 0 or late or ENDED in os.listdir(self.job.folder)  # a listing asks the file server

    def outcome(self) -> Outcome:
        """The outcome by the file of the machine of the cluster, or by `srun` where that file is absent."""
        try:
            ended = json.loads((self.job.folder / ENDED).read_text(encoding="utf-8"))
            return Outcome(self.job, ended["exit_code"], ended["timed_out"], ended["seconds"])
        except (OSError, ValueError, KeyError):
            code = self.step.returncode
            with self.job.log.open("ab") as log:
                log.write((self.job.folder / SRUN_LOG).read_bytes())
            # srun gives 128 + the signal, as a shell does
            return Outcome(
                self.job, 128 - code if code > 128 else code, False, time.monotonic() - self.started
            )


def _cancel(name: str, steps: list[subprocess.Popen[bytes]]) -> None:
    if not steps:
        return
    subprocess.run(["scancel", f"--name={name}"], check=False, capture_output=True)
    end = time.monotonic() + GRACE_SECONDS
    while any(step.poll() is None for step in steps) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    for step in steps:
        if step.poll() is None:
            step.kill()
        step.wait()
