"""A search for the settings of a row, with results made up for its trials."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from helpers import submissions
from helpers.results import made_result, store
from metabench import Cell, Result, Spec
from metabench.plugins import load
from metabench.records.tuning import Tuning
from metabench.results.cache import TRIALS
from metabench.runner.tuning import choose, collect, searches_of
from metabench_plugins.algorithms.maml import Maml

SEARCH = Tuning({"inner_rate": [0.05, 5.0, "log"]}, {"inner_rate": 0.5}, "sobol", 1001, trials=4)


def searched_row(seed: int = 0, tuning: Tuning = SEARCH) -> Cell:
    """A row of a suite whose settings are searched; its data set is not installed."""
    cell = submissions.made_cell(seed=seed)
    spec = Spec.of(Maml, {"inner_rate": 0.5})
    plugins = {**cell.plugins, "algorithm": "metabench 0.1.0"}
    return replace(cell, algorithm=spec, plugins=plugins, tuning=tuning.to_json())


def best_near_one(cell: Cell) -> Result:
    """The result of a trial: the nearer its inner rate is to 1, the better."""
    rate = cell.algorithm.settings["inner_rate"]
    return submissions.consistent(made_result(cell, 0.9 - abs(rate - 1.0) / 10))


def searched_results(
    rows: Sequence[Cell], result_of: Callable[[Cell], Result] = best_near_one
) -> tuple[list[Result], list[Result]]:
    """The results of rows with the settings of their best trials, and those of the trials."""
    registry = load()
    trials = collect(
        searches_of(registry, rows).values(), lambda cells: {cell.digest: result_of(cell) for cell in cells}
    )
    choice = choose(registry, rows, trials)
    results = [submissions.consistent(made_result(cell, 0.85)) for cell in choice.cells]
    return [replace(r, tuning=choice.records[r.cell.digest]) for r in results], list(trials.values())


def store_search(folder: Path, rows: Sequence[Cell]) -> tuple[list[Path], list[Path]]:
    """Write the results of searched rows and of their trials as a run would; return the files of both."""
    results, trials = searched_results(rows)
    paths = store(folder, results)
    beside = paths[0].parent / TRIALS
    beside.mkdir()
    files = []
    for trial in trials:
        files.append(beside / f"{trial.cell.id}.json")
        files[-1].write_text(json.dumps(trial.to_json()))
    return paths, files
