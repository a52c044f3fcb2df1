"""`metabench reproduce RESULT`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    epilog="""\b
Example:
  metabench reproduce results/quick-v1/my-machine/protonet-conv4-glyphs-5w1s-cpu-s0-1a2b3c4d5e.json
"""
)
@click.argument("result", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--results", type=click.Path(path_type=Path), default=Path("reproduced"),
              show_default=True, help="Folder that the new result is stored in.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress.")
def command(result: Path, results: Path, quiet: bool) -> int:
    """Run the cell of RESULT (a file) again and say whether the new numbers agree statistically.

    Exit status: 0 when they agree, 1 when they differ or nothing can be told, 2 for a mistake in the
    request.
    """
    from metabench.publishing.reproduce import reproduce
    from metabench.text import printable

    def warn(text: str) -> None:
        click.echo(f"warning: {printable(text)}", err=True)

    found = reproduce(result, results, quiet, warn)
    for line in found.lines:
        click.echo(line)
    verdict = {True: "reproduced", False: "not reproduced", None: "undecided"}[found.agrees]
    click.echo(f"{verdict}: {found.new.cell.id}")
    return 0 if found.agrees else 1
