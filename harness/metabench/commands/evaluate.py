"""`metabench evaluate RESULT`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from metabench.commands.terminal import say

if TYPE_CHECKING:
    from metabench.plugins import Registry
    from metabench.records.cell import Cell
    from metabench.records.protocol import Protocol
    from metabench.records.result import Result
    from metabench.runner import Plan

TEST = re.compile(r"(?:(?P<ways>\d{1,6})w)?(?:(?P<shots>\d{1,6})s)?(?:(?P<queries>\d{1,6})q)?")


@click.command(
    epilog="""\b
Examples:
  metabench evaluate results/local/quick-v1/protonet-conv4-glyphs-5w1s-cpu-s0-1a2b3c4d5e.json
  metabench evaluate RESULT.json --test 20w5s
  metabench evaluate RESULT.json --dataset omniglot-small --test 5w1s15q --tasks 1000
"""
)
@click.argument("result", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--dataset", metavar="NAME[:KEY=VALUE,…]", help="Data set of the test instead of the cell's own."
)
@click.option("--test", "shape", metavar="[Nw][Ns][Nq]",
              help="Ways, shots and queries of the test where they differ, such as 20w5s.")  # fmt: skip
@click.option("--metrics", metavar="NAME[,NAME]", help="Metrics instead of the cell's own; the first ranks.")
@click.option("--tasks", type=click.IntRange(min=2), help="Test tasks instead of the cell's own number.")
@click.option("--backend", metavar="NAME[:KEY=VALUE,…]", help="Backend instead of the cell's own.")
@click.option("--results", type=click.Path(path_type=Path),
              help="Folder of results to store it in; beside RESULT by default.")  # fmt: skip
@click.option("--allow-import", multiple=True, metavar="MODULE",
              help="A module that RESULT may import, where you trust its code (repeatable).")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Print warnings and failures only.")
def command(
    result: Path,
    dataset: str | None,
    shape: str | None,
    metrics: str | None,
    tasks: int | None,
    backend: str | None,
    results: Path | None,
    allow_import: tuple[str, ...],
    quiet: bool,
) -> int:
    """Score the learned state of RESULT (a file) on other tasks, without training.

    The state was kept beside the result (`metabench run --keep-states`, the default). What is scored becomes
    a cell of its own, stored and shown like the others. On the tasks of RESULT itself its scores are those of
    RESULT to the bit. A learner with a head of fixed size refuses a test with other ways.

    Exit status: 0 when it was scored, 1 when that failed, 2 for a mistake in the request.
    """
    from metabench.plugins import load
    from metabench.runner import execute

    registry = load()
    stored, cell = _cell(registry, result)
    cell = _changed(registry, cell, dataset, shape, metrics, tasks, backend)
    _require_fitting(registry, cell)
    plan = replace(_plan(registry, result, stored, cell, results), imports=frozenset(allow_import))
    if quiet:
        registry.silence()
    outcome = execute(plan, lambda text: say(f"warning: {text}", err=True))
    return _show(outcome.results[0], plan, quiet)


def _cell(registry: Registry, path: Path) -> tuple[Result, Cell]:
    """The result, and the cell that scores its state as it is installed here."""
    from metabench.errors import RequestError
    from metabench.publishing.reproduce import read_installed

    stored, cell = read_installed(path, registry)
    if stored.cell.scored:  # an evaluation itself: of the state that it scored
        return stored, replace(cell, expect=())
    if not stored.state:
        raise RequestError(
            f"{path}: its learned state was not kept (status {stored.status}); run the cell again with "
            "--keep-states --rerun"
        )
    return stored, replace(cell, scored=stored.cell.digest, weights=stored.state, expect=())


def _changed(
    registry: Registry,
    cell: Cell,
    dataset: str | None,
    shape: str | None,
    metrics: str | None,
    tasks: int | None,
    backend: str | None,
) -> Cell:
    """The cell with another test, as the options say."""
    from metabench.records.cell import Spec
    from metabench.settings import parse_spec

    def spec(kind: str, text: str) -> tuple[Spec, str]:
        settings = parse_spec(text)
        entry = registry.find(kind, settings.pop("name"))
        return Spec.of(entry.cls, settings), entry.source

    plugins = dict(cell.plugins)
    if dataset is not None:
        other, source = spec("dataset", dataset)
        if other == cell.dataset:
            plugins.pop("test_dataset", None)
            cell = replace(cell, test_dataset=None)
        else:
            plugins["test_dataset"] = source
            cell = replace(cell, test_dataset=other)
    if backend is not None:
        own, plugins["backend"] = spec("backend", backend)
        cell = replace(cell, backend=own)
    if shape is not None:
        cell = replace(cell, test=_shape(cell.test, shape))
    if metrics is not None:
        cell, plugins = _with_metrics(registry, cell, plugins, metrics)
    if tasks is not None:
        cell = replace(cell, evaluation=replace(cell.evaluation, tasks=tasks))
    return replace(cell, plugins=plugins)


def _with_metrics(
    registry: Registry, cell: Cell, plugins: Mapping[str, str], text: str
) -> tuple[Cell, dict[str, str]]:
    """The cell with the metrics of this text, and its plugins with theirs."""
    from metabench.errors import RequestError
    from metabench.publishing.rescore import further_specs
    from metabench.records.metric_scores import metric_slot, metric_title
    from metabench.settings import parse_specs

    first, *further = further_specs(registry, parse_specs(text))
    if metric_title(first) != first.name:
        raise RequestError(
            f"--metrics: the first one, which ranks, has no settings, got {metric_title(first)!r}"
        )
    titles = [metric_title(metric) for metric in (first, *further)]
    if len(set(titles)) < len(titles):
        raise RequestError(f"--metrics: must name each metric once, got {text!r}")
    others = {slot: source for slot, source in plugins.items() if not slot.startswith("metric")}
    slots = {"metric": first, **{metric_slot(metric): metric for metric in further}}
    others |= {slot: registry.find("metric", metric.name).source for slot, metric in slots.items()}
    return replace(
        cell, evaluation=replace(cell.evaluation, metric=first.name, metrics=tuple(further))
    ), others


def _shape(test: Protocol, text: str) -> Protocol:
    from metabench.records.protocol import VariedProtocol

    match = TEST.fullmatch(text)
    given = {name: int(number) for name, number in match.groupdict().items() if number} if match else {}
    if not given or not all(given.values()):
        raise click.BadParameter(f"must be like 20w5s or 5w1s15q, got {text!r}", param_hint="--test")
    return test.restated(**given) if isinstance(test, VariedProtocol) else test.with_shape(**given)


def _require_fitting(registry: Registry, cell: Cell) -> None:
    """Raise RequestError where the data set of the test does not fit the learner or the tasks."""
    from metabench.errors import RequestError
    from metabench.records.crossing import crossing_problem

    trained = registry.make("dataset", cell.dataset)
    tested = registry.make("dataset", cell.test_dataset or cell.dataset)
    missing = tested.missing()
    if missing is not None:
        raise RequestError(missing)
    own, facts = trained.describe(), tested.describe()
    problem = crossing_problem(own, facts, cell.learned_splits) if cell.test_dataset is not None else None
    if problem is not None:
        raise RequestError(f"data set {tested.name!r} {problem}")
    classes, images = facts.classes.get("test", 0), facts.images.get("test", 0)
    if classes and cell.test.ways > classes:
        raise RequestError(
            f"the ways of the test must be at most {classes}, the classes of split 'test' of "
            f"{tested.name!r}, got {cell.test.ways}"
        )
    needed = cell.test.shots + cell.test.queries
    if images and needed > images:
        raise RequestError(
            f"shots + queries of the test must be at most {images}, the images of a class in split 'test' of "
            f"{tested.name!r}, got {needed}"
        )


def _plan(registry: Registry, path: Path, stored: Result, cell: Cell, results: Path | None) -> Plan:
    from metabench.publishing.reproduce import weights_of
    from metabench.results.store import Store
    from metabench.runner import Plan
    from metabench.suite.suite import Suite

    suite = Suite(cell.suite, cell.suite_version, f"{stored.cell.id}, scored elsewhere", path, (cell,))
    store = Store(path.parent if results is None else results / suite.folder)
    digest = str(stored.environment.get("suite_digest", ""))
    weights = weights_of(path, cell)
    return Plan(registry, suite, store, (cell,), {}, rerun=True, suite_digest=digest, weights=weights)


def _show(result: Result, plan: Plan, quiet: bool) -> int:
    from metabench.records.cell import Status
    from metabench.report.content import Content
    from metabench.report.output import render
    from metabench.results.table import Results

    if result.status is not Status.OK:
        say(f"{result.status}: {result.cell.id}: {result.reason}", err=True)
        return 1
    if not quiet:
        click.echo(render(Content.of(Results.of([result])).sections(["scores"]), []))
        say(f"result: {plan.store.path(result.cell)}", err=True)
    return 0
