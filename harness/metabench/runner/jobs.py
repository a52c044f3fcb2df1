"""The jobs of a run: prepared as the executor takes them, watched while they run, read when they end."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metabench.contracts import Backend
from metabench.device import host
from metabench.errors import MetabenchError, PluginError
from metabench.plugins import Registry
from metabench.records.cell import Cell
from metabench.records.job import Job, Outcome
from metabench.records.result import Result
from metabench.results.store import Store, write_json
from metabench.runner.outcome import result_of
from metabench.settings import make

POLL_SECONDS = 0.2


@dataclass
class _Running:
    """A job that an executor has taken, and what its progress file has said so far."""

    cell: Cell
    job: Job
    started: str
    seen_bytes: int = 0
    last: Mapping[str, Any] | None = None


class Jobs:
    """The jobs of one run.

    provenance: what a result says of where it was asked for; remote: whether jobs may wait, and run on
    other machines.
    """

    def __init__(
        self,
        registry: Registry,
        store: Store,
        timeout: float | None,
        provenance: Mapping[str, Any],
        remote: bool = False,
    ) -> None:
        self.registry, self.store, self.timeout, self.provenance = registry, store, timeout, provenance
        self.remote = remote
        self.running: dict[str, _Running] = {}
        self.lock = threading.Lock()
        self.observing = threading.Lock()  # observers are called by one thread at a time
        self.stop = threading.Event()

    def prepared(self, cells: Sequence[Cell]) -> Iterator[Job]:
        """Each cell's job, its folder and file written when it is taken."""
        for number, cell in enumerate(cells, 1):
            folder = self.store.job_folder(cell)
            job_file = (folder / "job.json").resolve()
            job = self._job(cell, folder, job_file)
            write_json(job_file, {**self._description(cell), "argv": job.argv})
            if self.remote:
                job = replace(job, argv=(sys.executable, "-m", "metabench.worker.preflight", str(job_file)))
            with self.lock:
                self.running[cell.id] = _Running(cell, job, now())
            told = {"kind": "start", "number": number, "of": len(cells), "remote": self.remote}
            self._observe(cell, told)
            yield job

    def _job(self, cell: Cell, folder: Path, job_file: Path) -> Job:
        entry = self.registry.find("backend", cell.backend.name)
        backend: Backend = make(entry.cls, cell.backend.settings)
        try:
            argv, extra = backend.command([sys.executable, "-m", "metabench.worker", str(job_file)])
        except MetabenchError:
            raise
        except Exception as error:
            what = f"backend {entry.name!r}: its command raised {error!r}"
            raise PluginError(f"{entry.plugin}: {what}") from error
        resources = {"ranks": backend.world_size, "gpus": backend.gpus, **cell.backend.settings}
        return Job(cell.id, folder, tuple(argv), extra, self.timeout, resources)

    def _description(self, cell: Cell) -> dict[str, Any]:
        return {
            "cell": cell.to_json(),
            "components": {
                kind: self.registry.find(kind, spec.name).path for kind, spec in cell.components().items()
            },
            "provenance": self.provenance,
            "command": host.command_line(),
            "launched": None if self.remote else time.time(),
        }

    def ended(self, outcome: Outcome) -> Result | None:
        """The result of a job that ended; None where no such job runs."""
        self._poll()
        with self.lock:
            found = self.running.pop(outcome.job.id, None)
        if found is None:
            return None
        return result_of(
            outcome, found.cell, found.last, provenance=self.provenance, started=found.started
        )  # fmt: skip

    def announce(self, result: Result) -> None:
        """Tells observers how a cell ended."""
        event: dict[str, Any] = {"kind": "end", "status": result.status, "reason": result.reason,
                                 "seconds": result.wall_seconds}  # fmt: skip
        if result.scores is not None:
            event |= {"mean": sum(result.scores.per_task) / len(result.scores.per_task),
                      "metric": result.scores.metric}  # fmt: skip
        self._observe(result.cell, event)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Polls progress files in a thread while the block runs."""
        thread = threading.Thread(target=self._watch, daemon=True, name="progress")
        thread.start()
        try:
            yield
        finally:
            self.stop.set()
            thread.join()

    def _watch(self) -> None:
        while not self.stop.wait(POLL_SECONDS):
            self._poll()

    def _poll(self) -> None:
        with self.lock:
            for one in self.running.values():
                for event, end in _events(one.job.folder / "progress.jsonl", one.seen_bytes):
                    one.last, one.seen_bytes = event, end
                    self._observe(one.cell, event)

    def _observe(self, cell: Cell, event: Mapping[str, Any]) -> None:
        with self.observing:
            self.registry.observe("metabench_progress", cell=cell, event=event)


def _events(path: Path, start: int) -> Iterator[tuple[Mapping[str, Any], int]]:
    """The events in the whole lines of a progress file from byte `start` on, each with the byte after it."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            with suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and "kind" in event:
                    yield event, start


def now() -> str:
    """The time of day in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
