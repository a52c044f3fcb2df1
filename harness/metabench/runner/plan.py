"""What a run will do: the cells of a suite, those that are finished, and where results go."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from metabench.contracts import Dataset
from metabench.device import host
from metabench.errors import RequestError, StoreError
from metabench.plugin_calls import plugin_call
from metabench.plugins import Registry, load
from metabench.records.axes import select
from metabench.records.cell import Cell, Spec
from metabench.records.imported import module_of
from metabench.records.outputs import kind_of
from metabench.records.result import Result
from metabench.results.store import Store
from metabench.runner.code import code_warnings, made_by_other_code
from metabench.runner.imports import imports_of, require_allowed_imports
from metabench.runner.keeping import Keeping, keeping
from metabench.runner.tuning import Choice, choose, collect, searches_of, trial_store
from metabench.settings import parse_spec
from metabench.suite.arguments import Arguments
from metabench.suite.bounds import require_seconds
from metabench.suite.from_arguments import read_arguments
from metabench.suite.suite import Suite, read

RESULTS = "results/local"
"""The folder that results go to by default."""

NO_SEARCH = Choice((), {}, {})
"""The choice of a plan all of whose cells have their settings."""


@dataclass(frozen=True)
class Plan:
    """What a run will do: the cells to run, and those whose stored result is kept.

    finished: by the cell's digest, the stored results that no later run replaces. foreign: files in the
    places of these cells' results that hold something else; running sets them aside. warnings: what else a
    person should know before it runs; other_code: by the cell's digest, the stored results that other code
    made, with the kinds of component whose code has changed (none where it was not recorded). weights: the
    files that cells start from, by their SHA-256. choice: the settings that searches chose, by the trials
    that are stored; imports: the modules that cells may import by a path; loggers: those
    that curves and scores are sent to.
    """

    registry: Registry
    suite: Suite
    store: Store
    cells: tuple[Cell, ...]
    finished: Mapping[str, Result]
    executor: Spec = field(default_factory=lambda: Spec("local"))
    timeout: float | None = None
    rerun: bool = False
    suite_digest: str = ""
    foreign: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    keeping: Keeping = field(default_factory=Keeping)
    other_code: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    weights: Mapping[str, Path] = field(default_factory=dict)
    choice: Choice = NO_SEARCH
    imports: frozenset[str] = frozenset()
    loggers: tuple[Spec, ...] = ()

    @property
    def to_run(self) -> list[Cell]:
        """The cells that are not finished, in the suite's order."""
        return [cell for cell in self.cells if cell.digest not in self.finished]

    @property
    def expected_seconds(self) -> float | None:
        """How long the cells to run should take: the suite's own figure, for their share of its cells."""
        minutes = self.suite.minutes
        return None if minutes is None else 60 * minutes * len(self.to_run) / len(self.suite.cells)


def make_plan(
    suite: str | None = None,
    *,
    arguments: Arguments | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    backend: str | None = None,
    results: str | Path = RESULTS,
    rerun: bool = False,
    timeout: float | None = None,
    executor: str = "local",
    keep_states: bool | None = None,
    checkpoint_seconds: float | None = None,
    trials: int | None = None,
    allow_import: Sequence[str] = (),
    log: str | Sequence[str] = (),
    registry: Registry | None = None,
) -> Plan:
    """Read the suite, select its cells, look up what is stored; raises RequestError for any mistake.

    arguments: what a run without a file asks for, instead of the suite;
    only, skip: "axis=value,value" (algorithm, network, dataset, backend, ranks, ways, shots, seed,
    group, label, id); backend: "name:setting=value,…" instead of the suite's own; executor: likewise;
    timeout: seconds a cell; keep_states, checkpoint_seconds: see `keeping`; trials: of each search, instead
    of the suite's own number; allow_import: modules that the suite's cells may import by a path; log:
    loggers, "tensorboard" or "csv" with settings likewise. Changes nothing on disk but the
    suite file of the arguments.
    """
    require_seconds("--timeout", timeout)
    renamed = _checked_machine_name()
    registry = registry or load()
    executor_spec = _chosen(registry, "executor", executor)
    loggers = tuple(_chosen(registry, "logger", text) for text in ([log] if isinstance(log, str) else log))
    suite_read = _suite(registry, suite, arguments, seeds, parse_spec(backend) if backend else None, trials)
    rows = select(suite_read.cells, only, skip)
    if not rows:
        raise RequestError(
            f"suite {suite_read.name!r}: --only and --skip must leave a cell, "
            f"they leave none of {len(suite_read.cells)}"
        )
    imports = frozenset(allow_import)
    if suite is None:  # every path comes from the person who runs
        imports |= {module_of(path) for row in rows for _, path in imports_of(registry, row)}
    require_allowed_imports(registry, rows, imports)
    _require_data(registry, rows)
    store = Store(Path(results) / suite_read.folder)
    choice, trials_here = _choice(registry, store, rows, rerun)
    cells = choice.cells
    finished, foreign = stored_results(store, cells)
    finished = {} if rerun else finished
    stored = {**finished, **trials_here}
    other = made_by_other_code(registry, stored)
    warnings = *renamed, *_one_way_warnings(registry, cells), *code_warnings(stored, other)
    return Plan(
        registry, suite_read, store, cells, finished, executor_spec, timeout, rerun,
        suite_read.text_digest, tuple(map(str, foreign.values())),
        warnings, keeping(keep_states, checkpoint_seconds), other, suite_read.weights, choice, imports,
        loggers,
    )  # fmt: skip


def _suite(
    registry: Registry,
    suite: str | None,
    arguments: Arguments | None,
    seeds: Sequence[int] | None,
    backend: Mapping[str, Any] | None,
    trials: int | None,
) -> Suite:
    """Return the suite of this name or path, or the one that these arguments ask for."""
    if suite is not None and arguments:
        raise RequestError(f"suite {suite!r} says what runs: name a suite, or components, not both")
    if suite is not None:
        return read(registry, suite, seeds, backend, trials)
    if not arguments:
        raise RequestError(
            "a run needs a suite (`metabench list suites`), or --algorithm, --dataset and --test"
        )
    return read_arguments(registry, arguments, seeds, backend)


def _choice(
    registry: Registry, store: Store, rows: Sequence[Cell], rerun: bool
) -> tuple[Choice, Mapping[str, Result]]:
    """Choose settings by the trials that are stored, as far as searches are whole; return the trials too."""
    searches = searches_of(registry, rows).values()
    trials = {} if rerun else collect(searches, lambda cells: stored_results(trial_store(store), cells)[0])
    return choose(registry, rows, trials), trials


def stored_results(store: Store, cells: Sequence[Cell]) -> tuple[dict[str, Result], dict[str, StoreError]]:
    """Return, by digest of the cell, the finished results, and the errors of files that are no results."""
    finished, foreign = {}, {}
    for cell in cells:
        try:
            result = store.finished(cell)
        except StoreError as error:
            foreign[cell.digest] = error
            continue
        if result is not None:
            finished[cell.digest] = replace(result, cell=cell)  # group and label as the suite says today
    return finished, foreign


def _chosen(registry: Registry, kind: str, text: str) -> Spec:
    """Return the executor or logger of a text such as "slurm:partition=gpu"; raises RequestError."""
    settings = parse_spec(text)
    entry = registry.find(kind, settings.pop("name"))
    with plugin_call(f"{kind} {entry.name!r}: unavailable()"):
        reason = entry.cls.unavailable()
    if reason is not None:
        raise RequestError(f"{kind} {entry.name!r}: {reason}")
    return Spec.of(entry.cls, settings)


def _checked_machine_name() -> tuple[str, ...]:
    """A warning where METABENCH_MACHINE is no name of a folder, and the machine is called otherwise.

    Raises RequestError where results of this machine would lie in a folder that readers pass over.
    """
    chosen, name = os.environ.get("METABENCH_MACHINE", ""), host.machine()
    if not chosen:
        return ()
    from metabench.results.cache import RESERVED  # numpy, which a dry run does not need

    if name in RESERVED - {"local"}:
        raise RequestError(f"METABENCH_MACHINE must not be {name!r}: such a folder holds other things")
    if re.search(r"[a-zA-Z0-9]", chosen):
        return ()
    return (
        f"METABENCH_MACHINE={chosen} has no letter from a to z and no digit: results call the machine {name}",
    )


def _one_way_warnings(registry: Registry, cells: Sequence[Cell]) -> tuple[str, ...]:
    """A warning where cells classify among one class, so that every prediction is right."""
    single = [cell for cell in cells if getattr(cell.test, "least_ways", cell.test.ways) == 1]
    metrics = [registry.find("metric", cell.evaluation.metric).cls for cell in single]
    count = sum(kind_of(metric.needs) == "classification" for metric in metrics)
    cells_text = "1 cell classifies" if count == 1 else f"{count} cells classify"
    return (f"{cells_text} tasks of 1 way: whatever is predicted is right",) if count else ()


def _require_data(registry: Registry, cells: Sequence[Cell]) -> None:
    reasons: dict[str, None] = {}  # each once, in order
    for cell in cells:
        for spec in (cell.dataset, cell.tested):
            with plugin_call(f"dataset {spec.name!r}: missing()"):
                dataset: Dataset = registry.make("dataset", spec)
                reason = dataset.missing() if dataset.unavailable() is None else None
            if reason is not None:
                reasons[reason] = None
    if reasons:
        raise RequestError("\n".join(reasons))
