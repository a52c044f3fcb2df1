"""`metabench report [RESULTS…]`."""

from __future__ import annotations

import inspect
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metabench.commands.terminal import say
from metabench.errors import RequestError
from metabench.records.axes import AXES

if TYPE_CHECKING:
    from metabench.plugins import Registry
    from metabench.records.section import Section
    from metabench.report.content import Content
    from metabench.results.table import Results


@click.command(
    epilog="""\b
Examples:
  metabench report
  metabench report results/local --only dataset=glyphs --sort -score
  metabench report results/local --pivot method:dataset
  metabench report results/local --table cost --price-per-hour 2.5
  metabench report results/local results/quick-v1 --format latex,html --output paper
  metabench report results/local --format plots:formats=svg,pdf --output paper
"""
)
@click.argument("results", nargs=-1, type=click.Path())
@click.option(
    "--only", multiple=True, metavar="AXIS=VALUE[,VALUE]", help="Keep only these results (repeatable)."
)
@click.option(
    "--skip", multiple=True, metavar="AXIS=VALUE[,VALUE]", help="Leave these results out (repeatable)."
)
@click.option("--table", "tables", metavar="NAME[,NAME]", help="Only these tables, e.g. scores,scaling.")
@click.option("--sort", metavar="COLUMN", help="Order lines by this column; prefix with - for descending.")
@click.option("--pivot", metavar="AXIS:AXIS", help="Scores by two axes, e.g. method:dataset.")
@click.option("--lines", default=100, show_default=True, metavar="N",
              help="Maximum lines per table on the terminal (0 = all).")  # fmt: skip
@click.option("--price-per-hour", type=click.FloatRange(min=0, min_open=True), metavar="MONEY",
              help="Price of one device for an hour: adds columns to the table cost.")  # fmt: skip
@click.option("--format", "formats", multiple=True, metavar="NAME[,NAME] | NAME:KEY=VALUE,…",
              help="Also write these reports into --output (repeatable).")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), default=Path("report"), show_default=True,
              help="Folder for the files of --format.")  # fmt: skip
@click.option("--open", "opens", is_flag=True, help="Write the report html, too, and open it in the browser.")
def command(
    results: tuple[str, ...],
    only: tuple[str, ...],
    skip: tuple[str, ...],
    tables: str | None,
    sort: str | None,
    pivot: str | None,
    lines: int,
    price_per_hour: float | None,
    formats: tuple[str, ...],
    output: Path,
    opens: bool,
) -> int:
    """Show the tables of stored RESULTS (folders or files; results/local where none is named).

    Files that are not results are named at the end and passed over. The files of --format hold the tables
    that are shown, with all of their lines; the formats plots and site draw every result that is chosen.
    """
    from metabench.report.content import Content
    from metabench.report.output import render, write_reports

    if pivot is not None and tables is not None:
        raise RequestError("--pivot is a table of its own; leave out --table")
    content = Content.of(_read(results or ("results/local",), only, skip), price_per_hour)
    sections = _sections(content, tables, sort, pivot)
    if opens and not any("html" in text.split(",") for text in formats):
        formats = (*formats, "html")
    if not formats:
        click.echo(render(sections, content.problems, lines))
        return 0
    from metabench.plugins import load

    registry = load()
    settings = _requested(registry, formats)
    click.echo(render(sections, content.problems, lines))
    for path in write_reports(content.showing(sections), output, list(settings), registry, settings):
        say(path, err=True)
    if opens and not webbrowser.open((output / "report.html").absolute().as_uri()):
        raise RequestError(f"no browser can be started here; open {output / 'report.html'} yourself")
    return 0


command.help = f"{inspect.cleandoc(command.help or '')}\n\nAXIS is one of {', '.join(AXES)}."


def _read(paths: Sequence[str], only: Sequence[str], skip: Sequence[str]) -> Results:
    """Return the chosen results; raises RequestError where there are none."""
    from metabench.results.cache import for_good
    from metabench.results.table import Results

    with for_good():
        stored = Results.read(paths)
    if not len(stored):
        for problem in stored.problems[:20]:
            say(f"passed over: {problem}", err=True)
        raise RequestError(f"{', '.join(paths)}: no results in it; `metabench run quick` makes some")
    if only or skip:
        stored = stored.where(only, skip)
        if not len(stored):
            raise RequestError("no result is left by --only and --skip")
    return stored


def _sections(
    content: Content, tables: str | None, sort: str | None, pivot: str | None
) -> list[Section[Any]]:
    from metabench.report.content import ordered

    if pivot is None:
        return content.sections(tables.split(",") if tables else None, sort)
    down, _, across = pivot.partition(":")
    sections = [content.pivot(down, across)]
    return ordered(sections, sort) if sort else sections


def _requested(registry: Registry, formats: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the settings of each requested report, by name.

    `csv,plots:formats=svg,pdf,…`: what follows a colon are settings of the last name, as for
    `run --backend`; a value that is a list has commas too.
    """
    requested: dict[str, dict[str, Any]] = {}
    for text in formats:
        names, colon, rest = text.partition(":")
        *plain, last = names.split(",")
        settings = _settings(registry, last, rest)
        if colon and not settings:
            raise RequestError(f"{text!r}: no setting follows the colon; write NAME:setting=value")
        requested |= {name: {} for name in plain} | {last: settings}
    return requested


def _settings(registry: Registry, report: str, text: str) -> dict[str, Any]:
    """Return the settings in `key=value,key=value`; a part without a key continues a list."""
    from metabench.settings import describe_settings, parse_spec

    described = describe_settings(registry.find("report", report).cls)
    lists = {setting.name for setting in described if "list" in setting.type_text}
    settings: dict[str, Any] = {}
    key = ""
    for part in filter(None, text.split(",")):
        if "=" not in part and key in lists:
            settings[key].append(part)
            continue
        (key, value), *_ = (pair for pair in parse_spec(f"{report}:{part}").items() if pair[0] != "name")
        settings[key] = [value] if key in lists else value
    return settings
