"""`metabench verify RESULTS…`."""

from __future__ import annotations

import click


@click.command(
    epilog="""\b
Examples:
  metabench verify results/local/quick-v1
  metabench verify results
"""
)
@click.argument("results", nargs=-1, required=True, type=click.Path())
@click.option("--complete", is_flag=True, help=(
    "Ask for every cell and seed of each suite as it is installed, and for no other, as publish does."
))  # fmt: skip
def command(results: tuple[str, ...], complete: bool) -> int:
    """Check RESULTS (folders or files) before trusting them.

    Schema; digests of suite, manifest and cell settings; the seal against changes by hand; that scores
    follow from the per-task values; seeds that are distinct and all there; environment; parity across
    backends; plausible clocks; training that was enough.

    Exit status: 0 when nothing speaks against them, 1 otherwise. Notices are what tables will label.
    """
    from metabench.errors import RequestError
    from metabench.publishing.checks import verify, verify_whole
    from metabench.text import printable

    found = verify_whole(results) if complete else verify(results)
    if not found.files and not found.findings:
        raise RequestError(f"{', '.join(results)}: no results in it")
    for finding in found.findings:
        click.echo(printable(str(finding)))
    notices = len(found.findings) - len(found.errors)
    click.echo(f"{len(found.files)} results: {len(found.errors)} errors, {notices} notices", err=True)
    return 1 if found.errors else 0
