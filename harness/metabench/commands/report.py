"""`metabench report [RESULTS…]`."""

from __future__ import annotations

from pathlib import Path

import click

from metabench.rows import AXES


@click.command(
    epilog="""\b
Examples:
  metabench report
  metabench report results/local --only dataset=glyphs --sort training_seconds
  metabench report results/local --pivot method:dataset
  metabench report results/local results/quick-v1 --format latex,html,plots --output paper
"""
)
@click.argument("results", nargs=-1, type=click.Path())
@click.option(
    "--only", multiple=True, metavar="AXIS=VALUE[,VALUE]", help="Keep only these results (repeatable)."
)
@click.option(
    "--skip", multiple=True, metavar="AXIS=VALUE[,VALUE]", help="Leave these results out (repeatable)."
)
@click.option("--table", "tables", metavar="NAME[,NAME]", help="Only these tables, e.g. accuracy,scaling.")
@click.option("--sort", metavar="COLUMN", help="Order lines by this column; a leading - turns it round.")
@click.option("--pivot", metavar="AXIS:AXIS", help="Scores by two axes, e.g. method:dataset.")
@click.option("--lines", default=100, show_default=True, metavar="N", help="Most lines of each, 0: all.")
@click.option("--format", "formats", metavar="NAME[,NAME]", help="Also write these reports into --output.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("report"), show_default=True,
              help="Folder for the files of --format.")  # fmt: skip
def command(
    results: tuple[str, ...],
    only: tuple[str, ...],
    skip: tuple[str, ...],
    tables: str | None,
    sort: str | None,
    pivot: str | None,
    lines: int,
    formats: str | None,
    output: Path,
) -> int:
    """Show the tables of stored RESULTS (folders or files; results/local where none is named).

    Files that are no results are named at the end and passed over.
    """
    from metabench.table import Table, render, write_reports

    table = Table.read(results or ["results/local"])
    if only or skip:
        table = table.where(only, skip)
    if pivot is not None:
        down, _, across = pivot.partition(":")
        click.echo(render(table, [table.pivot(down, across)], lines))
    else:
        names = tables.split(",") if tables else None
        click.echo(render(table, table.chosen(names, sort), lines))
    if formats:
        from metabench.plugins import load

        for path in write_reports(table, output, formats.split(","), load()):
            click.echo(path, err=True)
    return 0


command.help = f"{command.help}\n\nAXIS is one of {', '.join(AXES)}."
