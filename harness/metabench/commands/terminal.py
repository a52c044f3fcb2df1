"""What commands print: no text of a plugin, a suite or a result moves a cursor or sets a title."""

from __future__ import annotations

import click

from metabench.text import printable


def say(text: object, *, err: bool = False) -> None:
    """Print a line without control characters; err: on standard error."""
    click.echo(printable(str(text)), err=err)
