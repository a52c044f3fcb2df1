"""`metabench plan SUITE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from metabench.plugins import Registry
    from metabench.report.plan import PlannedProtocol
    from metabench.suite import Suite

POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command(
    epilog="""\b
Examples:
  metabench plan omniglot-small --precision 1
  metabench plan glyphs-board results --difference 3
  metabench plan ./my-suite.toml --spread 12 --class-share 0.3
"""
)
@click.argument("suite")
@click.argument("results", nargs=-1, type=click.Path())
@click.option("--precision", type=POSITIVE, default=1.0, show_default=True, metavar="POINTS",
              help="Half of the 95 % interval of a row.")  # fmt: skip
@click.option("--difference", type=POSITIVE, default=3.0, show_default=True, metavar="POINTS",
              help="True difference between two rows that is to be found with a chance of 80 %.")  # fmt: skip
@click.option("--spread", type=POSITIVE, default=14.0, show_default=True, metavar="POINTS",
              help="Assumed standard deviation of a task's score, where no result is stored.")  # fmt: skip
@click.option("--class-share", type=click.FloatRange(0, 1), default=0.2, show_default=True, metavar="SHARE",
              help="Assumed fraction of its variance that the classes of a task explain.")  # fmt: skip
@click.option("--seed-spread", type=click.FloatRange(min=0), default=1.0, show_default=True, metavar="POINTS",
              help="Assumed standard deviation between training seeds.")  # fmt: skip
def command(
    suite: str,
    results: tuple[str, ...],
    precision: float,
    difference: float,
    spread: float,
    class_share: float,
    seed_spread: float,
) -> int:
    """Say how many test tasks, test classes and seeds a wanted precision takes on SUITE.

    How scores vary is read from the suite's stored RESULTS (results/local where none is named), or assumed
    where these recorded no classes. It holds for new classes, not only for more tasks of the same.
    """
    from metabench.errors import RequestError
    from metabench.plugins import load
    from metabench.report.output import render
    from metabench.report.plan import Spreads, Wanted, assumed, measured, plan
    from metabench.report.summary import Summaries
    from metabench.results.table import Results
    from metabench.suite import read

    registry = load()
    requested = read(registry, suite)
    protocols = _protocols(registry, requested)
    if not protocols:
        raise RequestError(
            f"suite {requested.name!r} tests no data set with a finite number of classes; tasks of endless "
            "data are new ones each, so that the interval over tasks holds"
        )
    folders = [path for path in results or ("results/local",) if results or Path(path).exists()]
    stored = Summaries(Results.read(folders).suite(requested.name, requested.version))
    spreads: dict[PlannedProtocol, Spreads] = {}
    for protocol in protocols:
        ways = protocol.protocol.ways
        spreads[protocol] = measured(stored, protocol) or assumed(
            spread / 100, class_share, seed_spread / 100, ways
        )
    section = plan(spreads, Wanted(precision / 100, difference / 100))
    click.echo(render([section], stored.results.problems, lines=0))
    return 0


def _protocols(registry: Registry, suite: Suite) -> list[PlannedProtocol]:
    """Return the different test tasks of a suite whose data set has a finite number of classes."""
    from metabench.contracts import Dataset
    from metabench.report.plan import PlannedProtocol

    protocols: dict[PlannedProtocol, None] = {}
    for cell in suite.cells:
        dataset: Dataset = registry.make("dataset", cell.tested)
        classes = dataset.describe().classes.get("test", 0)
        if classes:
            protocols[PlannedProtocol(cell.data_text, cell.test, cell.evaluation.tasks, classes)] = None
    return list(protocols)
