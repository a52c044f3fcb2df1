"""`metabench verify RESULTS…`."""

from __future__ import annotations

from pathlib import Path

import click

from metabench.commands.terminal import say


@click.command(
    epilog="""\b
Examples:
  metabench verify results/local/quick-v1
  metabench verify results --deep
"""
)
@click.argument("results", nargs=-1, required=True, type=click.Path())
@click.option("--complete", is_flag=True, help=(
    "Ask for every cell and seed of each suite as it is installed, and for no other, as publish does."
))  # fmt: skip
@click.option("--deep", is_flag=True, help=(
    "Also build each learner, where its components are installed, and count its parameters; make scores anew "
    "from the predictions that are stored beside a result."
))  # fmt: skip
@click.option("--signers", type=click.Path(exists=True, dir_okay=False, path_type=Path), help=(
    "File with the SSH keys that you know, instead of allowed_signers in the results repository."
))  # fmt: skip
@click.option("--allow-import", multiple=True, metavar="MODULE", help=(
    "A module that learners may import by a path with --deep, where you trust its code (repeatable)."
))  # fmt: skip
def command(
    results: tuple[str, ...], complete: bool, deep: bool, signers: Path | None, allow_import: tuple[str, ...]
) -> int:
    """Check RESULTS (folders or files) before trusting them.

    Everything that can be recomputed is: from each file its seal, cell digest, mean, steps, tasks, blocks,
    losses, validations, best step, target and clocks; from the metric the unit, direction and bounds; from
    the suite, where it is installed, the group, label and expected outcomes of each cell; from the data set,
    where it is here, the test tasks. Across files: copies, seeds, machines, parity of backends.
    Of each published folder it says who signed it, or that it is unsigned; a file that changed since, or that
    the signed list lacks, is an error. So is a record of a rerun that its rerun or its signature contradicts.

    Exit status: 0 when nothing speaks against them, 1 otherwise. Notices are what tables will label.
    """
    from metabench.errors import RequestError
    from metabench.publishing import verify

    verified = verify(results, complete=complete, deep=deep, signers=signers, allow_import=allow_import)
    if not verified.files and not verified.findings:
        raise RequestError(f"{', '.join(results)}: no results in it")
    for finding in verified.findings:
        say(finding)
    errors = len(verified.errors)
    notices = len(verified.findings) - errors
    say(f"{len(verified.files)} results: {errors} errors, {notices} notices", err=True)
    return 1 if errors else 0
