"""`metabench reproduce RESULT`."""

from __future__ import annotations

from pathlib import Path

import click

from metabench.commands.terminal import say


@click.command(
    epilog="""\b
Examples:
  metabench reproduce results/quick-v1/my-machine/protonet-conv4-glyphs-5w1s-cpu-s0-1a2b3c4d5e.json
  metabench reproduce results/quick-v1/my-machine/protonet-conv4-…-1a2b3c4d5e.json --record ~/.ssh/id_ed25519
"""
)
@click.argument("result", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--results", type=click.Path(path_type=Path), default=Path("reproduced"),
              show_default=True, help="Folder that the new result is stored in.")  # fmt: skip
@click.option("--weights", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="File that the cell starts from, where it is not kept beside RESULT.")  # fmt: skip
@click.option("--record", "key", type=click.Path(path_type=Path), metavar="KEY",
              help="Leave a record beside RESULT, signed with this SSH key.")  # fmt: skip
@click.option("--allow-import", multiple=True, metavar="MODULE",
              help="A module that RESULT may import, where you trust its code (repeatable).")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    result: Path, results: Path, weights: Path | None, key: Path | None, allow_import: tuple[str, ...],
    quiet: bool,
) -> int:  # fmt: skip
    """Run the cell of RESULT (a file) again and say whether the new numbers are those of the file.

    First come the findings of `metabench verify`. The verdict is: reproduced to the bit, to rounding, within
    the margin (2 points of accuracy, 10 % of other scores) with the tasks that moved, or not reproduced;
    undecided where nothing ran here or nothing can be compared. Training times on the same kind of machine
    must agree within a factor of 3.

    With --record, the verdict and the new result, with machine, environment and code, go to a file beside
    RESULT, signed with your key. Tables count the keys that the results repository knows: "reproduced on 2
    machines".

    Exit status: 0 when the file is sound and its numbers are reproduced, 1 otherwise, 2 for a mistake in the
    request.
    """
    from metabench.publishing.reproduce import record, reproduce
    from metabench.results.signatures import fingerprint

    def warn(text: str) -> None:
        say(f"warning: {text}", err=True)

    if key:
        fingerprint(key)  # a file that is no key is named before the cell runs
    reproduction = reproduce(result, results, quiet, warn, weights, allow_import)
    for finding in reproduction.findings:
        say(finding)
    for line in reproduction.lines:
        say(line)
    say(f"{reproduction.verdict}: {reproduction.new.cell.id}")
    if key:
        say(f"recorded: {record(result, reproduction, key)}")
    if reproduction.errors:
        say(f"the file itself has {reproduction.errors} errors: it is not as a run wrote it", err=True)
    return 0 if reproduction.confirmed else 1
