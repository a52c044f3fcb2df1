"""`metabench run SUITE`, or without a file `metabench run --algorithm … --dataset … --test …`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from metabench.api import write_run_reports
from metabench.commands.terminal import say
from metabench.records.apart import settings_apart
from metabench.records.cell import Cell
from metabench.runner import RESULTS, Plan, RunOutcome, execute, make_plan
from metabench.settings import parse_spec
from metabench.suite import Arguments
from metabench.suite.bounds import MOST_CELLS


@click.command(
    epilog="""\b
Examples:
  metabench run quick
  metabench run quick --only algorithm=maml,protonet --skip dataset=sinusoid
  metabench run my-suite.toml --seeds 0-2 --backend cpu-ranks:ranks=2,threads=1
  metabench run --algorithm protonet --network conv4 --dataset glyphs --test 5w1s --steps 100
  metabench run --with sklearn.neighbors:KNeighborsClassifier,n_neighbors=1 --dataset glyphs --test 5w1s
"""
)
@click.argument("suite", required=False)
@click.option("--algorithm", "algorithms", multiple=True, metavar="NAME[:KEY=VALUE,…]",
              help="Run without a suite: an algorithm with its settings (repeatable).")  # fmt: skip
@click.option("--with", "callables", multiple=True, metavar="MODULE:NAME[,KEY=VALUE…]",
              help="A function, estimator or torch module that knows no metabench (repeatable).")  # fmt: skip
@click.option("--network", "networks", multiple=True, metavar="NAME[:KEY=VALUE,…]",
              help="A network for the algorithms that have one (repeatable).")  # fmt: skip
@click.option("--dataset", "datasets", multiple=True, metavar="NAME[:KEY=VALUE,…]",
              help="A data set (repeatable).")  # fmt: skip
@click.option("--test-dataset", metavar="NAME[:KEY=VALUE,…]", help="The data set that is tested, if another.")
@click.option("--test", "tests", multiple=True, metavar="5w1s[15q]",
              help="Ways, shots and queries (by default 15) of the test tasks (repeatable).")  # fmt: skip
@click.option("--train", metavar="20w5s[15q]", help="Ways, shots and queries of training, if others.")
@click.option("--steps", type=click.IntRange(min=0), metavar="N", help="Meta-steps of training.")
@click.option("--budget", metavar="KEY=VALUE,…", help="More of the budget, e.g. tasks=4,validate_every=50.")
@click.option("--evaluation", metavar="KEY=VALUE,…", help="How to score, e.g. tasks=200,metric=nll.")
@click.option("--save-suite", type=click.Path(dir_okay=False, path_type=Path), metavar="NAME.toml",
              help="Write what runs as a suite file, and run that.")  # fmt: skip
@click.option(
    "--only", multiple=True, metavar="AXIS=VALUE[,VALUE]", help="Keep only these cells (repeatable)."
)
@click.option(
    "--skip", multiple=True, metavar="AXIS=VALUE[,VALUE]", help="Leave these cells out (repeatable)."
)
@click.option("--seeds", metavar="N[-N][,N]", help="Training seeds instead of the suite's, e.g. 0-2,5.")
@click.option("--backend", metavar="NAME[:KEY=VALUE,…]", help="Backend instead of the suite's own.")
@click.option("--results", default=RESULTS, show_default=True, help="Folder that results are stored in.")
@click.option("--rerun", is_flag=True, help="Run finished cells again; the old results move aside.")
@click.option("--timeout", type=float, metavar="SECONDS",
              help="Time limit per cell, including set-up and evaluation.")  # fmt: skip
@click.option("--executor", default="local", show_default=True, metavar="NAME[:KEY=VALUE,…]",
              help="Executor to use.")  # fmt: skip
@click.option("--log", multiple=True, metavar="NAME[:KEY=VALUE,…]",
              help="Log curves and scores: csv, tensorboard, wandb, mlflow (repeatable).")  # fmt: skip
@click.option(
    "--keep-states/--no-keep-states",
    default=None,
    help="Keep the learned state of each cell beside its result; METABENCH_KEEP_STATES=0 keeps none.",
)
@click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Time between two checkpoints of a cell, 120 or METABENCH_CHECKPOINT_SECONDS by default.",
)
@click.option("--allow-import", multiple=True, metavar="MODULE",
              help="A module that SUITE may import, where you trust its code (repeatable).")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
@click.option("--quiet", is_flag=True, help="Print warnings and failures only.")
def command(
    suite: str | None,
    algorithms: tuple[str, ...],
    callables: tuple[str, ...],
    networks: tuple[str, ...],
    datasets: tuple[str, ...],
    test_dataset: str | None,
    tests: tuple[str, ...],
    train: str | None,
    steps: int | None,
    budget: str | None,
    evaluation: str | None,
    save_suite: Path | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    seeds: str | None,
    backend: str | None,
    results: str,
    rerun: bool,
    timeout: float | None,
    executor: str,
    log: tuple[str, ...],
    keep_states: bool | None,
    checkpoint_seconds: float | None,
    allow_import: tuple[str, ...],
    dry_run: bool,
    quiet: bool,
) -> int:
    """Run SUITE (a name, or a path to a TOML file) and show its tables.

    Without SUITE, run every --algorithm with every --network, --dataset and --test, and every --with, in the
    suite `runs`.

    Cells whose result is stored already are not run again; one that was interrupted goes on from its last
    checkpoint. AXIS is one of algorithm, network, dataset,
    backend, ranks, threads, ways, shots, queries, train, steps, step_tasks, metric, seed, group, label, id,
    or a component's setting, as in --only algorithm.first_order=true.

    Exit status: 0 when every cell is ok, skipped with a reason, or ended as its suite expects; 1 when
    one failed; 2 for a mistake in the request; 130 when interrupted.
    """
    arguments = Arguments(
        algorithms, callables, networks, datasets, test_dataset=test_dataset, tests=tests, train=train,
        steps=steps, budget=_table(budget), evaluation=_table(evaluation), save=save_suite,
    )  # fmt: skip
    plan = make_plan(
        suite, arguments=arguments, only=only, skip=skip, seeds=_seeds(seeds), backend=backend,
        results=results, rerun=rerun, timeout=timeout, executor=executor, keep_states=keep_states,
        checkpoint_seconds=checkpoint_seconds, allow_import=allow_import, log=log,
    )  # fmt: skip
    for problem in (*map(str, plan.registry.problems), *plan.warnings):
        _warn(problem)
    if quiet:
        plan.registry.silence()
    else:
        _show_plan(plan)
    if dry_run:
        for error in plan.foreign:
            _warn(f"{error}; a run sets the file aside")
        return 0
    outcome = execute(plan, _warn)
    paths = write_run_reports(plan)
    if not quiet:
        _show_outcome(outcome, paths)
    _show_failures(outcome)
    return 1 if outcome.bad else 0


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    spans = [re.fullmatch(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?", part) for part in text.split(",")]
    bounds = [(int(span[1]), int(span[2] or span[1])) for span in spans if span]
    if len(bounds) < len(spans) or any(first > last for first, last in bounds):
        raise click.BadParameter(
            f"must be integers or rising ranges with commas between them, such as 0-2 or 0,1,5, got {text!r}",
            param_hint="--seeds",
        )
    return [seed for first, last in bounds for seed in range(first, last + 1)[: MOST_CELLS + 1]]


def _table(text: str | None) -> dict[str, Any]:
    settings = parse_spec(f"table:{text or ''}")
    return {key: value for key, value in settings.items() if key != "name"}


def _show_plan(plan: Plan) -> None:
    suite, to_run = plan.suite, plan.to_run
    say(f"suite {suite.name}, version {suite.version}: {suite.title}", err=True)
    marks = [_mark(plan, cell) for cell in plan.cells]
    apart = settings_apart(plan.cells)
    width = max(6, *map(len, marks))
    for mark, cell in zip(marks, plan.cells, strict=True):
        more = f"  ({apart[cell.digest]})" if apart[cell.digest] else ""
        say(f"  {mark:>{width}}  {cell.id}{more}", err=True)
    seconds = plan.expected_seconds
    expected = f", about {max(1, round(seconds / 60))} min" if seconds and to_run else ""
    trials = f", after {plan.choice.due} trials" if plan.choice.due else ""
    what = f"{len(to_run)} of {len(plan.cells)} cells to run{trials}{expected}"
    say(f"{what}; results in {plan.store.folder}", err=True)


def _mark(plan: Plan, cell: Cell) -> str:
    if cell.digest not in plan.finished:
        return "run"
    return "stored, other code" if cell.digest in plan.other_code else "stored"


def _show_outcome(outcome: RunOutcome, paths: Sequence[Path]) -> None:
    from metabench.report.content import Content  # numpy, which a dry run does not need
    from metabench.report.output import render
    from metabench.results.table import Results

    content = Content.of(Results.of(outcome.results))
    click.echo(render(content.sections(), content.problems))
    say(f"results: {outcome.plan.store.folder}", err=True)
    say("reports: " + ", ".join(map(str, paths)), err=True)


def _show_failures(outcome: RunOutcome) -> None:
    for result in outcome.bad:
        say(f"{result.status}: {result.cell.id}: {result.reason}", err=True)
        log = outcome.plan.store.log(result.cell)
        if log is not None:
            say(f"  its log: {log}", err=True)


def _warn(text: str) -> None:
    say(f"warning: {text}", err=True)
