"""A suite run in one call: `metabench.run`, and what the command `run` shares with it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metabench.records.files import writing
from metabench.runner import Plan, RunOutcome, execute, make_plan

if TYPE_CHECKING:
    import pandas as pd

REPORTS = ("markdown", "csv", "json")
"""The reports that every run writes."""


def run(suite: str, **options: Any) -> pd.DataFrame:
    """Run a suite and write its reports; return one row per result. options: those of `run_suite`."""
    from metabench.results.table import Results

    frame: pd.DataFrame = Results.of(run_suite(suite, **options).results).frame
    return frame


def run_suite(suite: str, *, quiet: bool = False, **options: Any) -> RunOutcome:
    """Plan and execute a suite and write its reports; options are those of `make_plan`.

    quiet: no progress. Warnings are Python's.
    """
    plan = make_plan(suite, **options)
    for text in (*map(str, plan.registry.problems), *plan.warnings):
        warnings.warn(text, stacklevel=2)
    if quiet:
        plan.registry.silence()
    outcome = execute(plan)
    write_run_reports(plan)
    return outcome


def write_run_reports(plan: Plan) -> list[Path]:
    """Write the reports over all stored results of the plan's suite, not only those of this run."""
    from metabench.report.content import Content  # numpy, which a dry run does not need
    from metabench.report.output import write_reports
    from metabench.results.table import Results

    folder = plan.store.folder / "report"
    with writing(folder):
        content = Content.of(Results.read([plan.store.folder]))
        return write_reports(content, folder, REPORTS, plan.registry, ours=True)
