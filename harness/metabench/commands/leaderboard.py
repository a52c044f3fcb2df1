"""`metabench leaderboard RESULTS… -o SITE`."""

from __future__ import annotations

from pathlib import Path

import click

from metabench.commands.terminal import say


@click.command(
    epilog="""\b
Example:
  metabench leaderboard results -o site
"""
)
@click.argument("results", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the site.")
@click.option("--pictures", default=24, show_default=True, metavar="N",
              help="Maximum pictures, at least one per suite (0 = none).")  # fmt: skip
def command(results: tuple[str, ...], output: Path, pictures: int) -> int:
    """Build a static site of leaderboards from RESULTS (folders or files).

    It works from a file:// address without any network; open SITE/index.html.
    """
    from metabench.errors import RequestError
    from metabench.plugins import load
    from metabench.report.content import Content
    from metabench.report.output import write_reports
    from metabench.results.cache import for_good
    from metabench.results.table import Results

    with for_good():
        stored = Results.read(results)
    if not len(stored):
        raise RequestError(f"{', '.join(results)}: no results in it, so there is nothing to show")
    for problem in stored.problems[:20]:
        say(f"passed over: {problem}", err=True)
    pages = write_reports(Content.of(stored), output, ["site"], load(), {"site": {"pictures": pictures}})
    say(pages[0])
    return 0
