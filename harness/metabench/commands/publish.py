"""`metabench publish [RESULTS…]`."""

from __future__ import annotations

from pathlib import Path

import click

from metabench.commands.terminal import say


@click.command(
    epilog="""\b
Examples:
  metabench publish results/local/quick-v1
  metabench publish results/local/sine-v1 --partial
  metabench publish results/local/quick-v1 --sign ~/.ssh/id_ed25519
  metabench publish              write results/README.md anew
  metabench publish --check      fail where it is stale
"""
)
@click.argument("results", nargs=-1, type=click.Path())
@click.option("--to", "folder", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
              help="Folder of the published results.")  # fmt: skip
@click.option(
    "--partial", is_flag=True, help="Publish a part of a suite; the page then says what is missing."
)
@click.option("--sign", "key", type=click.Path(path_type=Path), metavar="KEY",
              help="SSH key that signs the list of published files, SHA256SUMS.")  # fmt: skip
@click.option("--with-weights", is_flag=True,
              help="Copy learned states of at most 1 MB each too, not their digests alone.")  # fmt: skip
@click.option("--check", is_flag=True, help="Only say whether README.md there is up to date.")
def command(
    results: tuple[str, ...], folder: Path, partial: bool, key: Path | None, with_weights: bool, check: bool
) -> int:
    """Verify RESULTS and copy them to where a pull request adds them, then write their README.md.

    They have to be whole: every cell and seed of the suite as it is installed, and no other. With --sign,
    each machine's folder gets a list of its files with their SHA-256, and the key's signature of it;
    `metabench verify` then names the key, and any file that was changed, added or removed since.

    Exit status: 0 when done, 1 when `metabench verify --complete` finds errors or README.md is stale.
    """
    from metabench.errors import RequestError
    from metabench.publishing import publish, stale, verify, write_readme

    if check:
        if not folder.is_dir():
            raise RequestError(f"{folder}: no such folder; run this in the repository, or name it with --to")
        if stale(folder):
            say(f"{folder / 'README.md'} is stale; run: metabench publish --to {folder}", err=True)
            return 1
        return 0
    if key and not results:
        raise RequestError("--sign signs what is published: name the results too")
    if results:
        verified = verify(results, complete=True, partial=partial, same_code=True)
        for finding in verified.findings:
            say(finding)
        if verified.errors:
            say(f"nothing was published: {len(verified.errors)} errors", err=True)
            return 1
        if not verified.files:
            raise RequestError(f"{', '.join(results)}: no results in it")
        for path in publish(verified, folder, key, with_weights):
            say(path)
    folder.mkdir(parents=True, exist_ok=True)
    say(write_readme(folder))
    return 0
