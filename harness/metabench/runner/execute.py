"""From a suite to stored results: plans, prepares jobs, hands them to an executor, stores what comes back.

    plan = make_plan("quick")        every mistake in the request is raised here, before anything runs
    outcome = execute(plan)          exactly one result per cell, each stored as soon as it is there

Knows no tensor: cells run in worker processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from metabench.contracts import Backend, Dataset, Executor
from metabench.device import host
from metabench.errors import MetabenchError, PluginError, RequestError, StoreError
from metabench.folders import file_digest
from metabench.plugins import Registry, load
from metabench.records.axes import parse_spec, select
from metabench.records.cell import Cell, Spec, Status
from metabench.records.files import writing
from metabench.records.job import Outcome
from metabench.records.result import Result
from metabench.results.store import Store
from metabench.runner.jobs import Jobs, now
from metabench.settings import complete, make
from metabench.suite.suite import Suite, read

if TYPE_CHECKING:
    from metabench.results.table import Results

Warn = Callable[[str], None]
"""Takes what a person should know while a run goes on."""

RESULTS = "results/local"
REPORTS = ("markdown", "csv", "json")


@dataclass(frozen=True)
class Plan:
    """What a run will do: the cells to run, and those whose stored result stands.

    foreign: files in the places of these cells' results that hold something else; running sets them
    aside. warnings: what else a person should know before it runs.
    """

    registry: Registry
    suite: Suite
    store: Store
    cells: tuple[Cell, ...]
    settled: Mapping[str, Result]
    executor: Spec = field(default_factory=lambda: Spec("local"))
    timeout: float | None = None
    rerun: bool = False
    suite_digest: str = ""
    foreign: tuple[str, ...] = ()
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


@dataclass(frozen=True)
class RunOutcome:
    """What a run gave: one result per cell of the plan, in the suite's order."""

    plan: Plan
    results: Sequence[Result]

    @property
    def table(self) -> Results:
        """The results as a table, for reports."""
        from metabench.results.table import (
            Results,  # numpy and what reads results, which a dry run does not need
        )

        return Results.of(self.results)

    @property
    def bad(self) -> list[Result]:
        """The results that a person must look at: neither ok, nor skipped, nor expected by the suite."""
        return [result for result in self.results if result.bad]


def run_suite(suite: str, *, quiet: bool = False, **options: Any) -> RunOutcome:
    """Plans and executes a suite and writes its reports; options are those of `make_plan`.

    quiet: no progress. What a person should know besides is given as Python warnings.
    """
    plan = make_plan(suite, **options)
    for told in (*map(str, plan.registry.problems), *plan.warnings):
        _warn(told)
    if quiet:
        silence(plan.registry)
    outcome = execute(plan)
    report(plan)
    return outcome


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

    only, skip: "axis=value,value" (algorithm, network, dataset, backend, ranks, ways, shots, seed,
    group, label, id); backend: "name:setting=value,…" instead of the suite's own; executor: likewise;
    timeout: seconds a cell. Changes nothing on disk.
    """
    registry = registry or load()
    sent_by = _executor(registry, executor)
    found = read(registry, suite, seeds, parse_spec(backend) if backend else None)
    cells = select(found.cells, only, skip)
    if not cells:
        raise RequestError(f"suite {found.name!r}: --only and --skip leave no cell of {len(found.cells)}")
    _require_data(registry, cells)
    store = Store(Path(results) / found.folder)
    settled, foreign = _stored_results(store, cells)
    settled = {} if rerun else settled
    return Plan(
        registry, found, store, tuple(cells), settled, sent_by, timeout, rerun, file_digest(found.path),
        tuple(map(str, foreign.values())), _made_by_other_code(settled),
    )  # fmt: skip


def execute(plan: Plan, warn: Warn | None = None) -> RunOutcome:
    """Runs the plan's cells and stores each result as it ends; an interrupt keeps what is stored.

    warn: a Python warning by default. Raises StoreError where another run writes to the same folder.
    """
    warn = warn or _warn
    with _alone(plan.store.folder):
        plan = replace(plan, settled=_take_stock(plan, warn))
        fresh = _run(plan, warn) if plan.to_run else {}
    return RunOutcome(plan, [plan.settled.get(c.digest) or fresh[c.digest] for c in plan.cells])


def report(plan: Plan) -> list[Path]:
    """Writes the reports over all stored results of the plan's suite, whichever of them this run made."""
    from metabench.report.content import Content
    from metabench.report.output import write_reports
    from metabench.results.table import Results

    content = Content.of(Results.read([plan.store.folder]))
    folder = plan.store.folder / "report"
    with writing(folder):
        return write_reports(content, folder, REPORTS, plan.registry)


def _run(plan: Plan, warn: Warn) -> dict[str, Result]:
    """Runs the cells; gives their results by digest of the cell."""
    provenance = host.provenance() | {"suite_digest": plan.suite_digest}
    here: dict[str, Any] = {"environment": provenance, "command": host.command_line()}
    remote = plan.registry.find("executor", plan.executor.name).cls.remote
    jobs = Jobs(plan.registry, plan.store, plan.timeout, provenance, remote)
    fresh: dict[str, Result] = {}
    runnable = []
    for cell in plan.to_run:
        reason = _why_not(plan.registry, cell, remote)
        if reason is None:
            runnable.append(cell)
        else:
            fresh[cell.digest] = _stored(plan, Result(cell, Status.SKIPPED, reason, started=now(), **here))
    with jobs.watch(), closing(_ends(plan, jobs, runnable, warn)) as ends:
        for result in ends:
            fresh[result.cell.digest] = _stored(plan, result)
            if not result.bad:
                plan.store.clear_job(result.cell)
            jobs.announce(result)
    for cell in runnable:
        if cell.digest not in fresh:
            reason = f"executor {plan.executor.name!r} gave no outcome of this cell"
            fresh[cell.digest] = _stored(plan, Result(cell, Status.FAILED, reason, started=now(), **here))
    return fresh


def _ends(plan: Plan, jobs: Jobs, cells: Sequence[Cell], warn: Warn) -> Generator[Result, None, None]:
    """A result for each job that the executor says has ended; closing it ends what still runs."""
    name = plan.executor.name
    executor: Executor = make(plan.registry.find("executor", name).cls, plan.executor.settings)
    ends = executor.run(jobs.prepare(cells))
    try:
        for outcome in ends:
            result = jobs.finish(outcome) if isinstance(outcome, Outcome) else None
            if result is None:
                warn(f"executor {name!r} gave {outcome!r}, which is no outcome of a running job: passed over")
            else:
                yield result
    except (MetabenchError, OSError):
        raise
    except Exception as error:
        raise PluginError(f"executor {name!r} raised {type(error).__name__}: {error}") from error
    finally:
        if isinstance(ends, Generator):
            ends.close()


def _executor(registry: Registry, text: str) -> Spec:
    told = parse_spec(text)
    entry = registry.find("executor", told.pop("name"))
    reason = entry.cls.unavailable()
    if reason is not None:
        raise RequestError(f"executor {entry.name!r}: {reason}")
    return Spec(entry.name, complete(entry.cls, told))


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


def _stored_results(store: Store, cells: Sequence[Cell]) -> tuple[dict[str, Result], dict[str, StoreError]]:
    """By digest of the cell: the results that stand, and what is wrong with files that are no results."""
    settled, foreign = {}, {}
    for cell in cells:
        try:
            result = store.finished(cell)
        except StoreError as error:
            foreign[cell.digest] = error
            continue
        if result is not None:
            settled[cell.digest] = replace(result, cell=cell)  # group and label as the suite says today
    return settled, foreign


def _take_stock(plan: Plan, warn: Warn) -> dict[str, Result]:
    """Sets foreign files aside, and gives the results that stand."""
    settled, foreign = _stored_results(plan.store, plan.cells)
    for cell in plan.cells:
        if cell.digest in foreign:
            place = plan.store.set_aside(plan.store.path(cell))
            warn(f"{foreign[cell.digest]}; it now lies at {place}, and the cell runs again")
    return {} if plan.rerun else settled


def _made_by_other_code(settled: Mapping[str, Result]) -> tuple[str, ...]:
    """A warning where stored results come from another commit of this checkout of metabench."""
    here = host.provenance()["git"] if settled else None
    made = [str(git) for result in settled.values() if (git := result.environment.get("git")) and git != here]
    if here is None or not made:
        return ()
    others = ", ".join(sorted(set(made))[:3])
    return (
        f"{len(made)} stored results were made by other code (git {others}; now {here}); "
        "--rerun measures them again",
    )


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


def _why_not(registry: Registry, cell: Cell, remote: bool) -> str | None:
    """Why this cell cannot run: a missing package, or absent hardware where it would run here."""
    for kind, spec in cell.components().items():
        reason: str | None = registry.find(kind, spec.name).cls.unavailable()
        if reason is not None:
            return f"{kind} {spec.name!r}: {reason}"
    if remote:
        return None
    backend: Backend = make(registry.find("backend", cell.backend.name).cls, cell.backend.settings)
    reason = backend.available()
    return None if reason is None else f"backend {cell.backend.name!r}: {reason}"


def _stored(plan: Plan, result: Result) -> Result:
    plan.store.put(result)
    plan.registry.observe("metabench_result", result=result)
    return result


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)
