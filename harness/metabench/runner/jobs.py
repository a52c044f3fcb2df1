"""The jobs of a run: prepared as the executor takes them, watched while they run, read when they end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

from metabench.contracts import Backend
from metabench.device import host
from metabench.errors import PluginError, RequestError
from metabench.plugin_calls import plugin_call
from metabench.plugins import Registry
from metabench.records.cell import NETWORK_WEIGHTS, Cell, Status
from metabench.records.job import Job, JobFile, JobFolder, Outcome
from metabench.records.progress import EndEvent, Event, StartEvent
from metabench.records.result import Result
from metabench.results.store import Store
from metabench.runner.code import code_here
from metabench.runner.keeping import Keeping
from metabench.runner.loggers import Loggers
from metabench.runner.outcome import result_of_job
from metabench.runner.worker_files import ProgressReader

POLL_SECONDS = 0.2


@dataclass
class _RunningJob:
    """A job that an executor has taken, and its progress as far as it has been read."""

    cell: Cell
    progress: ProgressReader
    started: str
    last_event: Event | None = None


class Jobs:
    """The jobs of one run.

    provenance: the environment of whoever asked for the run, for their results; remote: whether jobs may
    wait, and run on other machines; apart: by the cell's digest, what tells it from cells of the same name;
    loggers: where curves and scores go (by default nowhere).
    """

    def __init__(
        self,
        registry: Registry,
        store: Store,
        timeout: float | None,
        provenance: Mapping[str, Any],
        remote: bool = False,
        keeping: Keeping = Keeping(),  # noqa: B008 - frozen
        weights: Mapping[str, Path] = MappingProxyType({}),
        apart: Mapping[str, str] = MappingProxyType({}),
        loggers: Loggers | None = None,
    ) -> None:
        self.registry, self.store, self.timeout, self.provenance = registry, store, timeout, provenance
        self.remote, self.keeping, self.weights = remote, keeping, weights
        self.apart = apart
        self.loggers = loggers or Loggers(registry, (), store.folder)
        self.running: dict[str, _RunningJob] = {}
        self.unprepared: dict[str, str] = {}  # by digest of the cell, why there was no job of it
        self.lock = threading.Lock()
        self.observing = threading.Lock()  # observers are called by one thread at a time
        self.stop = threading.Event()

    def prepare(self, cells: Sequence[Cell]) -> Iterator[Job]:
        """Yield the job of each cell; its folder and its file are written when it is taken.

        A cell whose backend has no command for it is passed over: `unprepared` has the reason.
        """
        for number, cell in enumerate(cells, 1):
            folder = self.store.make_job_folder(cell)
            try:
                job = self._job(cell, folder)
            except (PluginError, RequestError) as error:
                self.unprepared[cell.digest] = str(error)
                continue
            folder.write_job(self._job_file(cell, job.argv))
            if self.remote:
                preflight = (sys.executable, "-m", "metabench.worker.preflight", str(folder.job.resolve()))
                job = replace(job, argv=preflight)
            with self.lock:
                self.running[cell.id] = _RunningJob(cell, ProgressReader(folder), now())
            self._observe(cell, StartEvent(number, len(cells), self.remote, self.apart.get(cell.digest, "")))
            yield job

    def _job(self, cell: Cell, folder: JobFolder) -> Job:
        entry = self.registry.find("backend", cell.backend.name)
        worker = [sys.executable, "-m", "metabench.worker", str(folder.job.resolve())]
        with plugin_call(f"{entry.plugin}: the command of backend {entry.name!r}"):
            backend: Backend = self.registry.make("backend", cell.backend)
            argv, environment = backend.command(worker)
            resources = {"ranks": backend.world_size, "gpus": backend.gpus, **cell.backend.settings}
            return Job(cell.id, folder.path, tuple(argv), environment, self.timeout, resources)

    def _job_file(self, cell: Cell, argv: tuple[str, ...]) -> JobFile:
        launched = None if self.remote else time.monotonic()
        classes, carried = self.registry.classes(cell), self.registry.carried(cell)
        provenance = dict(self.provenance)
        if carried:
            provenance["sources"] = {slot: item.source for slot, item in carried.items()}
        weights = self.weights.get(cell.weights.removeprefix(NETWORK_WEIGHTS))
        return JobFile(
            cell, classes, argv, provenance, host.command_line(), launched,
            checkpoint=str(self.store.checkpoint(cell).resolve()),
            checkpoint_seconds=self.keeping.checkpoint_seconds, keep_state=self.keeping.states,
            weights=str(weights.resolve()) if weights else "",
            carried={slot: item.pickled for slot, item in carried.items()},
            search=tuple({folder: None for item in carried.values() for folder in item.search}),
        )  # fmt: skip

    def finish(self, outcome: Outcome) -> Result | None:
        """Return the result of a job that ended; None where no such job runs."""
        self._poll()
        with self.lock:
            job = self.running.pop(outcome.job.id, None)
        if job is None:
            return None
        result = result_of_job(
            outcome, job.cell, job.last_event, provenance=self.provenance, started=job.started
        )
        if result.code:
            return result
        (code,) = code_here(self.registry, [job.cell])  # a worker that was killed could not say what it ran
        return replace(result, code=code)

    def announce(self, result: Result) -> None:
        """Tell observers how a cell ended."""
        scores = result.scores
        mean, metric = (fmean(scores.per_task), scores.metric) if scores and scores.per_task else (None, "")
        event = EndEvent(result.status, result.reason, result.wall_seconds, mean, metric)
        with self.observing:
            self.loggers.close(result.cell, result)
        self._observe(result.cell, event)

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Read progress files in a thread while the block runs.

        Where the block is left early, observers are told of the end of the jobs that ran.
        """
        thread = threading.Thread(target=self._poll_until_stopped, daemon=True, name="progress")
        thread.start()
        try:
            yield
        finally:
            self.stop.set()
            thread.join()
            for job in self.running.values():
                self._observe(job.cell, EndEvent(Status.FAILED, "the run was interrupted", 0.0))
                self.loggers.close(job.cell, None)

    def _poll_until_stopped(self) -> None:
        while not self.stop.wait(POLL_SECONDS):
            self._poll()

    def _poll(self) -> None:
        with self.lock:
            for job in self.running.values():
                for event in job.progress.read():
                    job.last_event = event
                    self._observe(job.cell, event)

    def _observe(self, cell: Cell, event: Event) -> None:
        with self.observing:
            self.loggers.observe(cell, event)
            self.registry.observe("metabench_progress", cell=cell, event=event)


def now() -> str:
    """Return the time of day in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
