"""Are the accuracies of metabench's learners and learn2learn's the same, within 2 points?

    metabench run head-to-head
    python benchmarks/equivalence.py

Two one-sided tests (Schuirmann 1987) of the paired difference over crossed seeds and tasks: equal means
that a difference of the margin or more, in either direction, is rejected at 5 %.
"""

from collections.abc import Iterable
from pathlib import Path

import click
import numpy as np

from metabench.result import Result
from metabench.stats import difference
from metabench.store import Store, read_result

LEVEL = 0.05


def scores(results: Iterable[Result], algorithm: str) -> dict[int, tuple[float, ...]]:
    """The test tasks' scores of each seed; raises ClickException where the tasks are not one set."""
    found = [r for r in results if r.cell.algorithm.name == algorithm and r.scores is not None]
    manifests = {r.scores.manifest for r in found if r.scores is not None}
    if len(manifests) > 1:
        raise click.ClickException(f"{algorithm}: its results are over different test tasks")
    return {r.cell.seed: r.scores.per_task for r in found if r.scores is not None}


@click.command()
@click.argument(
    "folder", default="results/local/head-to-head-v1", type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--margin", default=2.0, show_default=True, help="Points of accuracy that still count as equal."
)
def command(folder: Path, margin: float) -> None:
    """Tests each l2l-* algorithm of this folder of results against ours of the same name."""
    results = [read_result(path) for path in Store(folder).paths()]
    results = [one for one in results if one.status == "ok"]
    rivals = sorted({r.cell.algorithm.name for r in results if r.cell.algorithm.name.startswith("l2l-")})
    if not rivals:
        raise click.ClickException(f"{folder} has no results of l2l-*; run: metabench run head-to-head")
    click.echo(
        f"{'':12}{'ours':>8}{'theirs':>8}{'difference, points (90 %)':>28}{'p':>9}  within ± {margin:g}?"
    )
    for rival in rivals:
        name = rival.removeprefix("l2l-")
        ours, theirs = scores(results, name), scores(results, rival)
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            click.echo(f"{name:12}no seed that both have")
            continue
        mine, other = (100 * np.array([side[seed] for seed in seeds]) for side in (ours, theirs))
        found = difference(mine, other)
        half, p = float(found.half_width(1 - 2 * LEVEL)), float(found.p_equal(margin))
        told = f"{float(found.mean):+.2f} ± {half:.2f}"
        answer = "equal" if p < LEVEL else "not shown to be equal"
        click.echo(
            f"{name:12}{mine.mean():8.2f}{other.mean():8.2f}{told:>28}{p:9.4f}  {answer}, {len(seeds)} seeds"
        )


if __name__ == "__main__":
    command()
