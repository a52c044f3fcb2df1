"""Lake's runs by the package's own list: which characters each has, and where their drawings stand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from metabench_plugins.datasets._split_lists import read_list

RUNS, WAYS = 20, 20
DRAWINGS = 4  # of a character: one to learn from and one to classify in each of its alphabet's two runs


@cache
def runs() -> Sequence[tuple[str, Sequence[str]]]:
    """Return the alphabet of each run and its characters, "alphabet/characterNN", class 1 first."""
    return [
        (run["alphabet"], [f"{run['alphabet']}/character{number:02d}" for number in run["characters"]])
        for run in read_list("omniglot_lake_runs.json")["runs"]
    ]


@cache
def characters() -> Sequence[str]:
    """Return the characters of all runs by name, sorted."""
    return sorted({name for _, names in runs() for name in names})


def first_row(run: int, name: str) -> int:
    """Return the row of the drawing to learn a run's character from; the one to classify is the next."""
    return characters().index(name) * DRAWINGS + 2 * (run % 2)
