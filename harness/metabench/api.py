"""A suite run in one call: `metabench.run`, and what the command `run` shares with it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from metabench.records.files import writing
from metabench.runner import Plan, RunOutcome, execute, make_plan
from metabench.suite import Arguments

if TYPE_CHECKING:
    import pandas as pd

REPORTS = ("markdown", "csv", "json")
"""The reports that every run writes."""


def run(suite: str | None = None, **options: Any) -> pd.DataFrame:
    """Run a suite and write its reports; return one row per result. options: those of `run_suite`."""
    from metabench.results.table import Results

    frame: pd.DataFrame = Results.of(run_suite(suite, **options).results).frame
    return frame


def run_suite(suite: str | None = None, *, quiet: bool = False, **options: Any) -> RunOutcome:
    """Plan and execute a suite and write its reports; options: those of `make_plan` and of `arguments_of`.

    quiet: no progress. Warnings are Python's.
    """
    named = {name: options.pop(name) for name in RUN_ARGUMENTS if name in options}
    plan = make_plan(suite, arguments=arguments_of(**named), **options)
    for text in (*map(str, plan.registry.problems), *plan.warnings):
        warnings.warn(text, stacklevel=2)
    if quiet:
        plan.registry.silence()
    outcome = execute(plan)
    write_run_reports(plan)
    return outcome


def arguments_of(
    *,
    algorithms: Any = (),
    callables: Any = (),
    networks: Any = (),
    datasets: Any = (),
    test: Any = (),
    test_dataset: Any = None,
    train: Any = None,
    steps: int | None = None,
    budget: Mapping[str, Any] = MappingProxyType({}),
    evaluation: Mapping[str, Any] = MappingProxyType({}),
    save_suite: str | Path | None = None,
) -> Arguments:
    """Return what a run without a suite asks for; what may be a list may be a single thing too.

    algorithms, networks, datasets: "maml:inner_rate=0.4", or {"name": "maml", "inner_rate": 0.4}; callables:
    "sklearn.svm:LinearSVC,C=2", what `--with` takes; test, train: "5w1s15q", a table, or a Protocol; budget,
    evaluation: tables of a suite file; save_suite: a file to write the suite to.
    """
    return Arguments(
        _listed(algorithms), _listed(callables), _listed(networks), _listed(datasets), tests=_listed(test),
        test_dataset=test_dataset, train=train, steps=steps, budget=dict(budget),
        evaluation=dict(evaluation), save=Path(save_suite) if save_suite is not None else None,
    )  # fmt: skip


RUN_ARGUMENTS = tuple(inspect.signature(arguments_of).parameters)


def _listed(given: Any) -> Sequence[Any]:
    return given if isinstance(given, (list, tuple)) else [given]


def write_run_reports(plan: Plan) -> list[Path]:
    """Write the reports over all stored results of the plan's suite, not only those of this run."""
    from metabench.report.content import Content  # numpy, which a dry run does not need
    from metabench.report.output import write_reports
    from metabench.results.table import Results

    folder = plan.store.folder / "report"
    with writing(folder):
        content = Content.of(Results.read([plan.store.folder]))
        return write_reports(content, folder, REPORTS, plan.registry, ours=True)
