"""Are the accuracies of metabench's learners and learn2learn's the same, within 2 points?

    metabench run head-to-head
    python benchmarks/equivalence.py results/local/head-to-head-v2

Two one-sided tests (Schuirmann 1987) of the paired difference over crossed seeds and tasks: "equal" means
that a difference of the margin or more, in either direction, is rejected at 5 %. As in `metabench compare`,
the spread between seeds is pooled over the pairs as far as they are alike. Prints a Markdown table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from metabench.errors import MetabenchError
from metabench.records.cell import Status
from metabench.records.files import read_result
from metabench.records.result import Result, Scores
from metabench.results.cache import files
from metabench.stats import Estimate, differences

LEVEL = 0.05
USUAL = Path("results/local/head-to-head-v2")
SHARED = ("suite", "suite_version", "network", "dataset", "test", "train", "budget", "evaluation", "backend")
"""What the cells of a pair must have in common, beside the settings that both algorithms have."""

Points = NDArray[np.float64]
Side = Mapping[int, Result]
"""The results of one algorithm, by seed."""


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--margin", default=2.0, show_default=True, help="Points of accuracy that count as equal.")
def command(folders: tuple[Path, ...], margin: float) -> None:
    """Test each l2l-* algorithm in these FOLDERS of results against metabench's own of the same name.

    Where none is named, it is the folder that `metabench run head-to-head` writes.
    """
    try:
        results = [read_result(path) for path in files(folders or [USUAL])[0]]
    except MetabenchError as error:
        raise click.ClickException(str(error)) from error
    algorithms = sides(
        result for result in results if result.status is Status.OK and result.scores is not None
    )
    rivals = [name for name in algorithms if name.startswith("l2l-")]
    if not rivals:
        raise click.ClickException("no results of l2l-* here; make some with: metabench run head-to-head")
    pairs = [pair(rival, algorithms) for rival in rivals]
    rows = [
        row(rival.removeprefix("l2l-"), *sides_of, difference, margin)
        for rival, sides_of, difference in zip(rivals, pairs, differences(pairs), strict=True)
    ]
    heads = ["algorithm", "metabench, %", "learn2learn, %", "difference, points (90 % interval)", "p",
             f"within ± {margin:g}", "seeds × tasks"]  # fmt: skip
    click.echo(tabulate(rows, heads, tablefmt="github", disable_numparse=True))


def sides(results: Iterable[Result]) -> dict[str, dict[int, Result]]:
    """Return algorithm → seed → result, sorted; raises ClickException where one seed has two results."""
    by_algorithm: dict[str, dict[int, Result]] = {}
    for result in results:
        side = by_algorithm.setdefault(result.cell.algorithm.name, {})
        other = side.setdefault(result.cell.seed, result)
        if other is not result:
            raise click.ClickException(
                f"{result.cell.algorithm.name} has two results for seed {result.cell.seed}, {other.cell.id} "
                f"and {result.cell.id}; name folders that hold one of them"
            )
    return dict(sorted(by_algorithm.items()))


def pair(rival: str, algorithms: Mapping[str, Side]) -> tuple[Points, Points]:
    """Ours and theirs, [seeds, tasks] each; raises ClickException where they cannot be compared."""
    name = rival.removeprefix("l2l-")
    if name not in algorithms:
        raise click.ClickException(f"{rival} has no counterpart: there is no result of {name}")
    ours, theirs = algorithms[name], algorithms[rival]
    check_pair(name, ours, theirs)
    return points(ours), points(theirs)


def points(side: Side) -> Points:
    """The scores of each test task in points, seeds in order: [seeds, tasks]."""
    return 100 * np.array([scores(side[seed]).per_task for seed in sorted(side)])


def row(name: str, ours: Points, theirs: Points, difference: Estimate, margin: float) -> list[str]:
    """Return a row of the table; difference: of the two sides."""
    p = float(difference.p_equal(margin))
    return [name, f"{ours.mean():.2f}", f"{theirs.mean():.2f}",
            f"{float(difference.mean):+.2f} ± {float(difference.half_width(1 - 2 * LEVEL)):.2f}",
            "< 0.0001" if p < 1e-4 else f"{p:.4f}", "yes" if p < LEVEL else "not shown",
            f"{ours.shape[0]} × {ours.shape[1]}"]  # fmt: skip


def check_pair(name: str, ours: Side, theirs: Side) -> None:
    """Raise ClickException unless the seeds, test tasks and cells of both sides correspond."""
    if ours.keys() != theirs.keys():
        raise click.ClickException(
            f"{name} has the seeds {sorted(ours)}, l2l-{name} has {sorted(theirs)}; a pair needs the same"
        )
    everything = [*ours.values(), *theirs.values()]
    common = set.intersection(*(set(result.cell.algorithm.settings) for result in everything))
    cells = [{**result.cell.to_json(), "settings": {k: result.cell.algorithm.settings[k] for k in common}}
             for result in everything]  # fmt: skip
    for key in (*SHARED, "settings"):
        values = sorted({json.dumps(cell[key], sort_keys=True) for cell in cells})
        if len(values) > 1:
            raise click.ClickException(f"{name} and l2l-{name} differ in {key}: {' | '.join(values)}")
    if len({scores(result).manifest for result in everything}) > 1:
        raise click.ClickException(f"{name} and l2l-{name} were scored on different test tasks")


def scores(result: Result) -> Scores:
    """The scores of a result that has some."""
    assert result.scores is not None
    return result.scores


if __name__ == "__main__":
    command()
