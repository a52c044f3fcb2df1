"""`metabench tune SUITE`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from metabench.commands.terminal import say
from metabench.runner import RESULTS

if TYPE_CHECKING:
    from metabench.records.cell import Cell, Spec
    from metabench.records.tuning import TuningRecord
    from metabench.runner import Plan


@click.command(
    epilog="""\b
Examples:
  metabench tune sine --trials 8 --only algorithm=maml
  metabench tune my-suite.toml > tuned.toml
"""
)
@click.argument("suite")
@click.option(
    "--trials", type=click.IntRange(min=1), help="Trials of each search instead of the suite's own."
)
@click.option(
    "--only", multiple=True, metavar="AXIS=VALUE[,VALUE]", help="Keep only these cells (repeatable)."
)
@click.option(
    "--skip", multiple=True, metavar="AXIS=VALUE[,VALUE]", help="Leave these cells out (repeatable)."
)
@click.option("--backend", metavar="NAME[:KEY=VALUE,…]", help="Backend instead of the suite's own.")
@click.option("--results", default=RESULTS, show_default=True, help="Folder that results are stored in.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Time limit per trial.")
@click.option("--executor", default="local", show_default=True, metavar="NAME[:KEY=VALUE,…]",
              help="Executor to use.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show how many trials are to run and stop.")
@click.option("--quiet", is_flag=True, help="Print warnings and the chosen settings only.")
def command(
    suite: str,
    trials: int | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    backend: str | None,
    results: str,
    timeout: float | None,
    executor: str,
    dry_run: bool,
    quiet: bool,
) -> int:
    """Search settings for the algorithms of SUITE and print the best, as entries of a suite.

    Only trials are run, each scored on validation tasks; `metabench run` goes on from them. The key `tune` of
    the suite states what is searched. With --trials it may be absent: then the space of each algorithm is
    searched, or its rates. Trials whose result is stored already are not run again.

    Exit status: 0 when all settings were chosen, 1 when a search has no good trial, 2 for a mistake in the
    request.
    """
    from metabench.errors import RequestError
    from metabench.runner import make_plan, tune

    plan = make_plan(
        suite, only=only, skip=skip, backend=backend, results=results, timeout=timeout, executor=executor,
        trials=trials,
    )  # fmt: skip
    for problem in plan.registry.problems:
        _warn(str(problem))
    if not any(cell.tuning for cell in plan.cells):
        raise RequestError(
            f"suite {plan.suite.name!r}: a cell must have settings to search; state `tune = {{trials = N}}`, "
            "or give --trials N"
        )
    if quiet:
        plan.registry.silence()
    else:
        say(f"{plan.choice.due} trials to run; results in {plan.store.folder}", err=True)
    if dry_run:
        return 0
    plan = tune(plan, _warn)
    click.echo("\n\n".join(_chosen(plan)))
    for digest, reason in plan.choice.unchosen.items():
        (row,) = (cell for cell in plan.cells if cell.digest == digest)
        say(f"failed: {row.id}: {reason}", err=True)
    return 1 if plan.choice.unchosen else 0


def _chosen(plan: Plan) -> Iterator[str]:
    """Yield an entry of a suite for each row whose settings were chosen."""
    seen: set[str] = set()
    for cell in plan.cells:
        record = plan.choice.records.get(cell.digest)
        configuration = cell.key(("seed",))
        if record is not None and configuration not in seen:
            seen.add(configuration)
            yield _entry(cell, record)


def _entry(cell: Cell, record: TuningRecord) -> str:
    from metabench.suite.protocols import as_written
    from metabench.suite.toml_text import toml_value

    tested = {"test_dataset": _component(cell.test_dataset)} if cell.test_dataset else {}
    keys: dict[str, Any] = {
        "algorithm": _component(cell.algorithm),
        **({"network": _component(cell.network)} if cell.network else {}),
        "dataset": _component(cell.dataset),
        **tested,
        "test": as_written(cell.test),
        **({"label": cell.label} if cell.label else {}),
    }
    lines = [f"{key} = {toml_value(value)}" for key, value in keys.items()]
    return "\n".join([f"# {_account(cell, record)}", "[[cells]]", *lines])


def _account(cell: Cell, record: TuningRecord) -> str:
    """Return how the settings were chosen, in words."""
    chosen, own = record.trials[cell.tuning["chosen"]], record.trials[0]
    before = "no score" if own.score is None else f"{own.score:.4g}"
    return (
        f"trial {cell.tuning['chosen']} of {len(record.trials)}: validation {cell.evaluation.metric} "
        f"{chosen.score:.4g}, by the suite's own settings {before}; {record.seconds:.0f} s"
    )


def _component(spec: Spec) -> str | dict[str, Any]:
    """Return a component as a suite writes it, without settings that are at their defaults."""
    settings = {
        name: value
        for name, value in spec.settings.items()
        if name not in spec.defaults and value is not None
    }
    return {"name": spec.name, **settings} if settings else spec.name


def _warn(text: str) -> None:
    say(f"warning: {text}", err=True)
