"""`metabench compare BASE NEW`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from metabench.report.comparison import Alternated
    from metabench.results.table import Results


@click.command(
    epilog="""\b
Examples:
  metabench compare results/quick-v1 results/local
  metabench compare base new --drop 1.0 --slowdown 20 --markdown comment.md
  metabench compare maml.json protonet.json --alternate
"""
)
@click.argument("base", type=click.Path())
@click.argument("new", type=click.Path())
@click.option("--drop", default=0.5, show_default=True, metavar="POINTS", help=(
    "Drop of a score that counts as a regression: points of accuracy, per cent of other scores."
))  # fmt: skip
@click.option("--slowdown", default=10.0, show_default=True, metavar="PERCENT", help=(
    "Slowdown of a training step that counts as a regression. Stored results show only slowdowns of more "
    "than 30 %, as much as runs of one loop differ by; --alternate shows a few per cent."
))  # fmt: skip
@click.option("--alternate", is_flag=True, help=(
    "Time the training steps of two single results here, in one process, block by block in turns, instead "
    "of comparing the stored times."
))  # fmt: skip
@click.option("--markdown", type=click.Path(path_type=Path), help="Write the table as Markdown to this file.")
def command(base: str, new: str, drop: float, slowdown: float, alternate: bool, markdown: Path | None) -> int:
    """Compare the results NEW with the results BASE, cell by cell, as a gate for changes.

    Exit status: 0 when nothing is shown to be worse beyond the thresholds, 1 when something is, 2 for a
    mistake in the request.
    """
    from metabench.errors import RequestError
    from metabench.report.comparison import Thresholds, compare
    from metabench.report.output import plain, render
    from metabench.results.table import Results
    from metabench.text import printable

    old, now = Results.read([base]), Results.read([new])
    for table, path in ((old, base), (now, new)):
        if not len(table):
            raise RequestError(f"{path}: no results in it, nothing can be compared")
    in_turns = _alternated(old, now) if alternate else None
    comparison = compare(old, now, Thresholds(drop / 100, slowdown / 100), in_turns)
    click.echo(render([comparison.section], [*old.problems, *now.problems], lines=0))
    if markdown is not None:
        markdown.write_text(plain(comparison.section, "github") + "\n", encoding="utf-8")
    for line in comparison.regressed:
        click.echo(printable(f"regression: {line}"), err=True)
    return 1 if comparison.regressed else 0


def _alternated(base: Results, new: Results) -> Alternated:
    """The step times of two cells, measured here in turns."""
    from metabench.errors import RequestError
    from metabench.plugins import load
    from metabench.report.comparison import Alternated
    from metabench.worker import paired as pairing

    if len(base) != 1 or len(new) != 1:
        raise RequestError("--alternate times two cells: name a single result file on either side")
    timing = pairing.pair(base.result(0).cell, new.result(0).cell, load())
    return Alternated(timing.ratio, len(timing.base_seconds))
