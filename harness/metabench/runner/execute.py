"""Runs a plan: hands the cells to an executor as jobs, and stores the result of each as soon as it ends."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from metabench.contracts import CONTRACT_VERSION, Backend, Executor
from metabench.device import host
from metabench.errors import MetabenchError, PluginError, StoreError
from metabench.plugin_calls import describe_exception, plugin_call
from metabench.plugins import Registry
from metabench.records.apart import settings_apart
from metabench.records.cell import Cell, Status
from metabench.records.job import Outcome
from metabench.records.metric_scores import component_slots
from metabench.records.result import Result
from metabench.runner.imports import require_allowed_imports
from metabench.runner.jobs import Jobs, now
from metabench.runner.loggers import Loggers
from metabench.runner.plan import NO_SEARCH, Plan, stored_results
from metabench.runner.tuning import choose, collect, searches_of, set_superseded_aside, trial_store

_NO_MORE = object()

Warn = Callable[[str], None]
"""Takes what a person should know while a run goes on."""


@dataclass(frozen=True)
class RunOutcome:
    """The results of a run: one per cell of the plan, in the suite's order."""

    plan: Plan
    results: Sequence[Result]

    @property
    def bad(self) -> list[Result]:
        """The results that a person must look at: neither ok, nor skipped, nor expected by the suite."""
        return [result for result in self.results if result.bad]


def execute(plan: Plan, warn: Warn | None = None) -> RunOutcome:
    """Run the plan's cells and store each result as it ends; an interrupt keeps what is stored.

    The trials of its searches run first; the outcome's plan has the cells with the chosen settings. warn: a
    Python warning by default. Raises StoreError where another run writes to the same folder, and
    RequestError where a cell would import what the plan does not allow.
    """
    warn = warn or _warn
    require_allowed_imports(plan.registry, plan.to_run, plan.imports)
    with _alone(plan.store.folder):
        plan = _with_chosen_settings(plan, warn)
        plan = replace(plan, finished=_take_stock(plan, warn))
        fresh = _Run(plan, warn).run() if plan.to_run else {}
    return RunOutcome(plan, [plan.finished.get(c.digest) or fresh[c.digest] for c in plan.cells])


def tune(plan: Plan, warn: Warn | None = None) -> Plan:
    """Run the trials that the searches of a plan lack; return the plan with the settings that were best.

    warn, errors: as of `execute`.
    """
    with _alone(plan.store.folder):
        return _with_chosen_settings(plan, warn or _warn)


def _with_chosen_settings(plan: Plan, warn: Warn) -> Plan:
    """Return the plan whose rows have the settings that their searches chose; those are run before."""

    def run_trials(cells: Sequence[Cell]) -> dict[str, Result]:
        trials = replace(
            plan, store=trial_store(plan.store), cells=tuple(cells), finished={}, choice=NO_SEARCH,
            keeping=replace(plan.keeping, states=False),
        )  # fmt: skip
        outcome = execute(trials, warn)
        for result in outcome.bad:
            warn(f"trial {result.cell.id}: {result.status}: {result.reason}")
        return {result.cell.digest: result for result in outcome.results}

    searches = [s for s in searches_of(plan.registry, plan.cells).values() if _can_run(plan, s.row)]
    choice = choose(plan.registry, plan.cells, collect(searches, run_trials)) if searches else plan.choice
    records = {**plan.choice.records, **choice.records}
    plan = replace(plan, cells=choice.cells or plan.cells, choice=replace(choice, records=records))
    for cell in plan.cells:
        if cell.digest in records:
            for superseded in set_superseded_aside(plan.store, cell):
                warn(f"{superseded}: set aside, the search chose other settings for its row: {cell.id}")
    return plan


def _can_run(plan: Plan, cell: Cell) -> bool:
    """Return whether a cell has what it needs here; a row that is skipped needs no trials."""
    remote = plan.registry.find("executor", plan.executor.name).cls.remote
    try:
        return why_skipped(plan.registry, cell, remote) is None
    except PluginError:
        return False


class _Run:
    """One run of a plan's cells; `results`: by digest of the cell, those that have ended."""

    def __init__(self, plan: Plan, warn: Warn) -> None:
        self.plan, self.warn = plan, warn
        self.provenance = host.provenance() | {"suite_digest": plan.suite_digest}
        self.remote = plan.registry.find("executor", plan.executor.name).cls.remote
        self.jobs = Jobs(
            plan.registry, plan.store, plan.timeout, self.provenance, self.remote, plan.keeping, plan.weights,
            settings_apart(plan.cells), Loggers(plan.registry, plan.loggers, plan.store.folder, warn),
        )  # fmt: skip
        self.results: dict[str, Result] = {}

    def run(self) -> dict[str, Result]:
        """Run every cell; return their results."""
        runnable = []
        for cell in self.plan.to_run:
            try:
                reason, status = why_skipped(self.plan.registry, cell, self.remote), Status.SKIPPED
            except PluginError as error:
                reason, status = str(error), Status.FAILED
            if reason is None and cell.digest in self.plan.choice.unchosen:
                reason, status = self.plan.choice.unchosen[cell.digest], Status.FAILED
            if reason is None:
                runnable.append(cell)
            else:
                self._store_without_job(cell, status, reason)
        with self.jobs.watch(), closing(self._job_results(runnable)) as job_results:
            for job_result in job_results:
                result = self._keep(self.plan.store.with_predictions(job_result))
                if not result.bad:
                    self.plan.store.clear_job(result.cell)
                self.jobs.announce(result)
        silent = f"executor {self.plan.executor.name!r} gave no outcome of this cell"
        for cell in runnable:
            if cell.digest not in self.results:
                reason = self.jobs.unprepared.get(cell.digest, silent)
                self._store_without_job(cell, Status.FAILED, reason)
        return self.results

    def _keep(self, result: Result) -> Result:
        """Store the result of a job; where that is impossible, store instead that it is."""
        try:
            return self._store(result)
        except MetabenchError:  # a full disk ends the run; the results before it are stored
            raise
        except Exception as error:
            reason = f"its result cannot be stored: {describe_exception(error)}"
            return self._store_without_job(result.cell, Status.FAILED, reason)

    def _job_results(self, cells: Sequence[Cell]) -> Generator[Result, None, None]:
        """Yield the result of each job that the executor says has ended; closing it ends what still runs."""
        name = self.plan.executor.name
        executor: Executor = self.plan.registry.make("executor", self.plan.executor)
        outcomes: Iterator[Any] = iter(())
        try:
            with plugin_call(f"executor {name!r}"):
                outcomes = iter(executor.run(self.jobs.prepare(cells)))
            while True:
                with plugin_call(f"executor {name!r}"):
                    outcome = next(outcomes, _NO_MORE)
                if outcome is _NO_MORE:
                    return
                result = self.jobs.finish(outcome) if isinstance(outcome, Outcome) else None
                if result is None:
                    self.warn(f"executor {name!r} gave {outcome!r}, which is no outcome of a running job")
                else:
                    yield result
        finally:
            if isinstance(outcomes, Generator):
                outcomes.close()

    def _store_without_job(self, cell: Cell, status: Status, reason: str) -> Result:
        here: dict[str, Any] = {"environment": self.provenance, "command": host.command_line()}
        return self._store(Result(cell, status, reason, started=now(), contract=CONTRACT_VERSION, **here))

    def _store(self, result: Result) -> Result:
        records, logs = self.plan.choice.records, self.jobs.loggers.links(result.cell)
        result = replace(result, tuning=records.get(result.cell.digest), logs=logs)
        try:
            result = self.plan.store.keep_state(result)
        except StoreError as error:
            self.warn(f"{result.cell.id}: its learned state is not kept: {error}")
            result = replace(result, state="")
        self.plan.store.put(result)
        if result.final:
            self.plan.store.clear_checkpoint(result.cell)
        self.results[result.cell.digest] = result
        self.plan.registry.observe("metabench_result", result=result)
        return result


def why_skipped(registry: Registry, cell: Cell, remote: bool) -> str | None:
    """Return why this cell cannot run: a missing package, or absent hardware where it would run here."""
    for _, kind, spec in component_slots(cell):
        component = registry.find(kind, spec.name).cls
        with plugin_call(f"{kind} {spec.name!r}: unavailable()"):
            reason: str | None = component.unavailable()
        if reason is not None:
            return f"{kind} {spec.name!r}: {reason}"
    if remote:
        return None
    with plugin_call(f"backend {cell.backend.name!r}: available()"):
        backend: Backend = registry.make("backend", cell.backend)
        reason = backend.available()
    return None if reason is None else f"backend {cell.backend.name!r}: {reason}"


def _take_stock(plan: Plan, warn: Warn) -> dict[str, Result]:
    """Set foreign files aside; return the finished results that are stored."""
    finished, foreign = stored_results(plan.store, plan.cells)
    for cell in plan.cells:
        if cell.digest in foreign:
            place = plan.store.set_aside(plan.store.path(cell))
            warn(f"{foreign[cell.digest]}; it was moved to {place}, and the cell runs again")
        if plan.rerun:
            plan.store.clear_checkpoint(cell)
    return {} if plan.rerun else finished


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder and hold it for this run alone; the lock ends with the process, however it ends."""
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


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)
