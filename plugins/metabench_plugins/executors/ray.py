"""Sends cells to a Ray cluster: one task for each, with the cores and GPUs that its backend asks for."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar

from metabench import Executor, setting
from metabench.records import Job, JobFile, JobFolder, Outcome, writing
from metabench_plugins.executors._ray_cluster import cluster, machines
from metabench_plugins.executors._ray_task import End, Mailbox, Order, run_order

POLL_SECONDS = 0.2
LOST = 1
"""The exit code of a cell whose task Ray could not bring to an end; its log says why."""


@dataclass(frozen=True, kw_only=True)
class Ray(Executor):
    """Sends each cell to a machine of a Ray cluster, with the cores and GPUs that its backend asks for.

    The code of metabench and of every installed plugin travels with the cells; their other packages and the
    data must be there. Logs, progress and results come home. Ray starts a cell again only where the machine
    that ran it died. A cell's time limit and its clocks begin when it starts, not while it waits.
    """

    name: ClassVar[str] = "ray"
    remote: ClassVar[bool] = True

    address: str = setting(
        "", "cluster, such as auto or ray://head:10001 (none: RAY_ADDRESS, else this machine alone)"
    )
    parallel: int = setting(64, "cells that are sent at once, waiting or running", at_least=1)
    retries: int = setting(3, "how often a cell starts again whose machine died", at_least=0)
    exclusive: bool = setting(
        False, "a machine for each cell alone, so that nothing else on it disturbs the clock"
    )
    shared: bool = setting(
        False, "the results folder has the same path on every machine: cells write, and go on, there"
    )
    grows: bool = setting(
        False,
        "the cluster starts machines when they are asked for: wait for cores and GPUs that it lacks now",
    )
    grace_seconds: float = setting(3.0, "time between asking a process to end and killing it", at_least=0)

    @classmethod
    def unavailable(cls) -> str | None:
        """The reason where Ray is not installed with what sends code to other machines."""
        if any(importlib.util.find_spec(package) is None for package in ("ray", "aiohttp")):
            return 'no Ray here: pip install "metabench[ray]"'
        return None

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """One outcome per job, as they end; closing the iterator cancels every job that was sent."""
        waiting = iter(jobs)
        for first in islice(waiting, 1):  # without a job no cluster is needed
            with cluster(self.address) as ray:
                yield from _Tasks(self, ray).run(chain([first], waiting))


class _Tasks:
    """The jobs that were sent: by the reference of their task."""

    def __init__(self, settings: Ray, ray: Any) -> None:
        self.settings, self.ray = settings, ray
        self.mailbox = ray.remote(Mailbox).options(num_cpus=0, max_restarts=-1).remote()
        self.task = ray.remote(run_order)
        self.sent: dict[Any, tuple[Job, float]] = {}

    def run(self, jobs: Iterator[Job]) -> Iterator[Outcome]:
        try:
            while True:
                for job in islice(jobs, self.settings.parallel - len(self.sent)):
                    self._send(job)
                if not self.sent:
                    return
                ended, _ = self.ray.wait(list(self.sent), timeout=POLL_SECONDS)
                self._take_pieces()
                for reference in ended:
                    job, started = self.sent.pop(reference)
                    yield self._outcome(reference, job, started)
        finally:  # also when the user interrupts, or the iterator is closed
            for reference in self.sent:
                self.ray.cancel(reference)
            if self.sent:
                grace = self.settings.grace_seconds + 10
                self.ray.wait(list(self.sent), num_returns=len(self.sent), timeout=grace)

    def _send(self, job: Job) -> None:
        job.folder.mkdir(parents=True, exist_ok=True)
        order = _order(job, self.settings)
        options = self._options(job.resources)
        self.sent[self.task.options(**options).remote(order, self.mailbox)] = job, time.monotonic()

    def _options(self, resources: Mapping[str, Any]) -> dict[str, Any]:
        """What Ray gives a cell, at most a whole machine: whether that suffices is found out there.

        A cell that takes every core gets all of the largest machine that has its GPUs.
        """
        gpus = float(resources.get("gpus", 0))
        threads = int(resources.get("threads", 1)) or len(resources.get("affinity", ()))
        cores = float(threads * int(resources.get("ranks", 1)))
        at_hand = machines(self.ray)
        if not self.settings.grows:
            gpus = min(gpus, max((present for _, present in at_hand), default=0.0))
        largest = max((present for present, more in at_hand if more >= gpus), default=cores)
        whole = self.settings.exclusive or not threads
        if whole or not self.settings.grows:
            cores = largest if whole else min(cores, largest)
        return {
            "num_cpus": cores, "num_gpus": gpus, "max_retries": self.settings.retries,
            "retry_exceptions": False, "name": "metabench cell",
        }  # fmt: skip

    def _take_pieces(self) -> None:
        with suppress(self.ray.exceptions.RayError):  # its machine died; it starts again on another
            pieces = self.ray.get(self.mailbox.take.remote(), timeout=10)
            folders = {job.id: job.folder for job, _ in self.sent.values()}
            for piece in pieces:
                if piece.job in folders:
                    path = folders[piece.job] / Path(piece.name).name
                    with writing(path), path.open("r+b" if path.exists() else "w+b") as file:
                        file.truncate(piece.offset)
                        file.seek(piece.offset)
                        file.write(piece.data)

    def _outcome(self, reference: Any, job: Job, started: float) -> Outcome:
        try:
            end: End = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            with job.log.open("a", encoding="utf-8") as log:
                log.write(f"\nRay: {error}\n")
            return Outcome(job, LOST, False, time.monotonic() - started)
        for name, data in end.files.items():
            with writing(job.folder / name):
                (job.folder / Path(name).name).write_bytes(data)
        if end.checkpoint is not None and (path := _checkpoint(job)) is not None:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(end.checkpoint)
        return Outcome(job, end.exit_code, end.timed_out, end.seconds)


def _order(job: Job, settings: Ray) -> Order:
    """The job with the files that it reads, unless they are seen everywhere."""
    home = job.folder.resolve()
    files, checkpoint = None, _checkpoint(job)
    if not settings.shared:
        document = _job_file(job)
        paths = [path for path in home.iterdir() if path.is_file()]
        paths += [Path(path) for path in (document.checkpoint, document.weights) if path] if document else []
        files = {str(path): path.read_bytes() for path in paths if path.exists()}
    return Order(
        job.id, job.argv, dict(job.environment), job.timeout, settings.grace_seconds, str(home),
        sys.executable, files, str(checkpoint or ""),
    )  # fmt: skip


def _job_file(job: Job) -> JobFile | None:
    folder = JobFolder(job.folder)
    return folder.read_job() if folder.job.exists() else None


def _checkpoint(job: Job) -> Path | None:
    document = _job_file(job)
    return Path(document.checkpoint) if document and document.checkpoint else None
