"""From a suite to stored results: plans, prepares jobs, hands them to an executor, stores what comes back.

    plan = make_plan("quick")        every mistake in the request is raised here, before anything runs
    outcome = execute(plan)          exactly one result per cell, each stored as soon as it is there

Knows no tensor: cells run in worker processes.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from metabench import environment
from metabench.contracts import Backend, Dataset
from metabench.ended import result_of
from metabench.errors import RequestError, StoreError
from metabench.jobs import Job, Outcome
from metabench.plugins import Registry, load
from metabench.records import Cell
from metabench.result import Result
from metabench.selection import parse_spec, select
from metabench.settings import make
from metabench.store import Store, write_json
from metabench.suite import Suite, read

if TYPE_CHECKING:
    from metabench.table import Table

RESULTS = "results/local"
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Plan:
    """What a run will do: the cells to run, and those whose stored result stands."""

    registry: Registry
    suite: Suite
    store: Store
    cells: tuple[Cell, ...]
    settled: Mapping[str, Result]
    executor: str = "local"
    timeout: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def to_run(self) -> list[Cell]:
        """The cells without a result that stands, in the suite's order."""
        return [cell for cell in self.cells if cell.digest not in self.settled]

    @property
    def expected_seconds(self) -> float | None:
        """What the cells to run should take: the suite's own figure, for their share of its cells."""
        minutes = self.suite.minutes
        return None if minutes is None else 60 * minutes * len(self.to_run) / len(self.suite.cells)


@dataclass
class RunOutcome:
    """What a run gave: one result per cell of the plan, and what it had to warn of."""

    plan: Plan
    results: list[Result] = field(default_factory=list)

    @property
    def table(self) -> Table:
        """The results as a table, for reports."""
        from metabench.table import Table  # imports pandas, which a worker's start does not wait for

        return Table.of(self.results)

    @property
    def bad(self) -> list[Result]:
        """The results that a person must look at: neither ok, nor skipped, nor expected by the suite."""
        fine = ("ok", "skipped")
        return [r for r in self.results if r.status not in fine and r.status not in r.cell.expect]


def run_suite(suite: str, *, quiet: bool = False, **options: Any) -> RunOutcome:
    """Plans and executes a suite; options are those of `make_plan`."""
    plan = make_plan(suite, **options)
    if quiet:
        silence(plan.registry)
    return execute(plan)


def silence(registry: Registry) -> None:
    """Takes the progress display out of a registry."""
    if registry.manager.has_plugin("metabench:progress"):
        registry.manager.unregister(name="metabench:progress")


def make_plan(
    suite: str,
    *,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    backend: str | None = None,
    results: str | Path = RESULTS,
    rerun: bool = False,
    timeout: float | None = None,
    executor: str = "local",
    registry: Registry | None = None,
) -> Plan:
    """Reads the suite, selects cells, looks up what is stored; raises RequestError for any mistake.

    only, skip: "axis=value,value", see `metabench.selection.select`; backend: "name:setting=value,…"
    instead of the suite's own; timeout: seconds a cell.
    """
    registry = registry or load()
    registry.find("executor", executor)
    found = read(registry, suite, seeds, parse_spec(backend) if backend else None)
    cells = select(found.cells, only, skip)
    if not cells:
        raise RequestError(f"suite {found.name!r}: --only and --skip leave no cell of {len(found.cells)}")
    _require_data(registry, cells)
    store = Store(Path(results) / found.folder)
    settled, warnings = _settled(store, cells) if not rerun else ({}, [])
    return Plan(registry, found, store, tuple(cells), settled, executor, timeout, tuple(warnings))


def execute(plan: Plan) -> RunOutcome:
    """Runs the plan's cells and stores each result as it ends; an interrupt keeps what is stored."""
    if not plan.to_run:
        return RunOutcome(plan, [plan.settled[cell.digest] for cell in plan.cells])
    with _alone(plan.store.folder):
        return _execute(plan)


def _execute(plan: Plan) -> RunOutcome:
    fresh: dict[str, Result] = {}
    jobs = _Jobs(plan)
    executor = make(plan.registry.find("executor", plan.executor).cls)
    runnable = []
    for cell in plan.to_run:
        reason = _why_not(plan.registry, cell)
        if reason is None:
            runnable.append(cell)
        else:
            fresh[cell.digest] = _stored(plan, Result(cell, "skipped", reason, started=_now()))
    with jobs.watched():
        ends = executor.run(jobs.prepared(runnable))
        try:
            for ended in ends:
                cell = jobs.ended(ended)
                result = result_of(ended, cell, jobs.last_events.get(ended.job.id))
                fresh[cell.digest] = _stored(plan, result)
                plan.store.clear_job(cell)
                jobs.announce(cell, result)
        finally:
            if isinstance(ends, Generator):
                ends.close()  # ends what still runs, where an interrupt brought us here
    return RunOutcome(plan, [plan.settled.get(c.digest) or fresh[c.digest] for c in plan.cells])


def _require_data(registry: Registry, cells: Sequence[Cell]) -> None:
    missing: dict[str, None] = {}
    for cell in cells:
        cls = registry.find("dataset", cell.dataset.name).cls
        dataset: Dataset = make(cls, cell.dataset.settings)
        reason = dataset.missing() if cls.unavailable() is None else None
        if reason is not None:
            missing[reason] = None
    if missing:
        raise RequestError("\n".join(missing))


def _settled(store: Store, cells: Sequence[Cell]) -> tuple[dict[str, Result], list[str]]:
    settled, warnings = {}, []
    for cell in cells:
        try:
            result = store.settled(cell)
        except StoreError as error:
            target = store.set_aside(store.path(cell))
            warnings.append(f"{error}; it now lies at {target}, and the cell runs again")
            continue
        if result is not None:
            settled[cell.digest] = replace(result, cell=cell)  # group and label as the suite says today
    return settled, warnings


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Makes the folder and holds it for this run alone; the lock ends with the process, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise StoreError(
            f"{folder}: another run writes here; wait for it, or choose another --results"
        ) from None
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made: {error.strerror}; choose another --results") from error
    try:
        yield
    finally:
        lock.release()


def _why_not(registry: Registry, cell: Cell) -> str | None:
    """Why this cell cannot run here: a missing package or absent hardware."""
    for kind in ("algorithm", "network", "dataset", "backend"):
        spec = getattr(cell, kind)
        reason: str | None = registry.find(kind, spec.name).cls.unavailable() if spec else None
        if reason is not None:
            return f"{kind} {spec.name!r}: {reason}"
    backend: Backend = make(registry.find("backend", cell.backend.name).cls, cell.backend.settings)
    reason = backend.available()
    return None if reason is None else f"backend {cell.backend.name!r}: {reason}"


def _stored(plan: Plan, result: Result) -> Result:
    plan.store.put(result)
    plan.registry.observe("metabench_result", result=result)
    return result


class _Jobs:
    """Prepares jobs as the executor takes them, and watches the progress of those that run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.provenance = environment.provenance() | {"suite_digest": file_digest(plan.suite.path)}
        self.running: dict[str, tuple[Cell, Job, int]] = {}  # id → cell, job, characters read
        self.last_events: dict[str, Mapping[str, Any]] = {}
        self.started = 0
        self.lock = threading.Lock()
        self.stop = threading.Event()

    def prepared(self, cells: Sequence[Cell]) -> Iterator[Job]:
        """Each cell's job, its folder and file written when it is taken."""
        for number, cell in enumerate(cells, 1):
            folder = self.plan.store.job_folder(cell)
            job_file = (folder / "job.json").resolve()
            backend: Backend = make(
                self.plan.registry.find("backend", cell.backend.name).cls, cell.backend.settings
            )
            argv, extra = backend.command([sys.executable, "-m", "metabench.worker", str(job_file)])
            resources = {"ranks": backend.world_size, **cell.backend.settings}
            job = Job(cell.id, folder, tuple(argv), extra, self.plan.timeout, resources)
            write_json(job_file, self._told(cell))
            with self.lock:
                self.running[cell.id] = (cell, job, 0)
            self._observe(cell, {"kind": "start", "number": number, "of": len(cells)})
            yield job

    def _told(self, cell: Cell) -> dict[str, Any]:
        names = {"algorithm": cell.algorithm.name, "dataset": cell.dataset.name,
                 "backend": cell.backend.name, "metric": cell.evaluation.metric}  # fmt: skip
        if cell.network is not None:
            names["network"] = cell.network.name
        registry = self.plan.registry
        return {
            "cell": cell.to_json(),
            "components": {kind: registry.find(kind, name).path for kind, name in names.items()},
            "provenance": self.provenance,
            "command": environment.command_line(),
            "launched": time.time(),
        }

    def ended(self, outcome: Outcome) -> Cell:
        """The cell of a job that ended; reads the rest of its progress."""
        self._poll()
        with self.lock:
            return self.running.pop(outcome.job.id)[0]

    def announce(self, cell: Cell, result: Result) -> None:
        """Tells observers how a cell ended."""
        event: dict[str, Any] = {"kind": "end", "status": result.status, "reason": result.reason,
                                 "seconds": result.wall_seconds}  # fmt: skip
        if result.scores is not None:
            event |= {"mean": sum(result.scores.per_task) / len(result.scores.per_task),
                      "metric": result.scores.metric}  # fmt: skip
        self._observe(cell, event)

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
            for name, (cell, job, seen) in list(self.running.items()):
                for event, end in _events(job.folder / "progress.jsonl", seen):
                    self.running[name] = (cell, job, end)
                    self.last_events[name] = event
                    self._observe(cell, event)

    def _observe(self, cell: Cell, event: Mapping[str, Any]) -> None:
        self.plan.registry.observe("metabench_progress", cell=cell, event=event)


def _events(path: Path, start: int) -> Iterator[tuple[Mapping[str, Any], int]]:
    """The whole lines of a progress file from byte `start` on, each with the byte after it."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            yield json.loads(line), start


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
