"""Searches for settings: their trials run as ordinary cells, and the rows of a plan get what was best.

The trials of all searches that can be drawn are run together, by the executor of the plan; their results lie
in a folder beside those of the suite, `metabench.results.cache.TRIALS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import NamedTuple

from metabench.errors import StoreError
from metabench.plugins import Registry
from metabench.records.cell import Cell, Spec
from metabench.records.files import read_result
from metabench.records.result import Result
from metabench.records.tuning import (
    QUASI_RANDOM,
    Trial,
    Tuning,
    TuningRecord,
    chosen_cell,
    row_cell,
    trial_cell,
)
from metabench.results.cache import TRIALS
from metabench.results.store import Store
from metabench.runner.samplers import draw_trials, require_sampler

ResultsOf = Callable[[Sequence[Cell]], Mapping[str, Result]]
"""Gives the results of trials by digest of the cell: those that are stored, or all, by running them."""


class Progress(NamedTuple):
    """How far a search is: the trials of whole rounds, and the cells that the next round lacks."""

    trials: tuple[Trial, ...]
    due: tuple[Cell, ...]


@dataclass(frozen=True)
class Search:
    """The search for the settings of one row of a suite, whatever its seed."""

    registry: Registry
    row: Cell
    tuning: Tuning

    @cached_property
    def higher_is_better(self) -> bool:
        """Whether a higher validation score is better."""
        return bool(self.registry.find("metric", self.row.evaluation.metric).cls.higher_is_better)

    def progress(self, results: Mapping[str, Result]) -> Progress:
        """Return how far the search is with these results, by digest of the trial's cell."""
        trials: list[Trial] = []
        while len(trials) < self.tuning.trials:
            numbers = self.tuning.round_of(len(trials))
            drawn = draw_trials(self.tuning, numbers, trials, self.higher_is_better)
            cells = [self.cell(number, settings) for number, settings in zip(numbers, drawn, strict=False)]
            due = tuple(cell for cell in cells if cell.digest not in results)
            if due:
                return Progress(tuple(trials), due)
            of_round = [results[cell.digest] for cell in cells]
            trials += [_trial(settings, result) for settings, result in zip(drawn, of_round, strict=True)]
            if len(drawn) < len(numbers):  # every setting of a small space has been tried
                break
        return Progress(tuple(trials), ())

    def cell(self, number: int, settings: Mapping[str, object]) -> Cell:
        """Return the cell of a trial."""
        return trial_cell(self.row, number, self._spec(settings))

    def chosen(self, row: Cell, number: int, settings: Mapping[str, object]) -> Cell:
        """Return a cell of the row with the settings of a trial."""
        return chosen_cell(row, number, self._spec(settings))

    def _spec(self, settings: Mapping[str, object]) -> Spec:
        spec = self.row.algorithm
        return Spec.of(self.registry.find("algorithm", spec.name).cls, {**spec.settings, **settings})


@dataclass(frozen=True)
class Choice:
    """The cells of a plan with chosen settings, as far as their searches are whole.

    records: the trials that a cell's settings were chosen from, by its digest; unchosen: why a row has no
    settings, by its digest; due: how many trials are still to run.
    """

    cells: tuple[Cell, ...]
    records: Mapping[str, TuningRecord]
    unchosen: Mapping[str, str]
    due: int = 0


def searches_of(registry: Registry, cells: Iterable[Cell]) -> dict[str, Search]:
    """Return the search of each cell whose settings are to be chosen, by `search_key`."""
    searches: dict[str, Search] = {}
    for cell in cells:
        tuning = Tuning.of(cell)
        if tuning is not None and tuning.of_row:
            require_sampler(tuning.sampler)
            searches.setdefault(search_key(cell), Search(registry, cell, tuning))
    return searches


def search_key(row: Cell) -> str:
    """Return what rows share that have one search: all but their seed."""
    return row.key(("seed",))


def collect(searches: Iterable[Search], results_of: ResultsOf) -> dict[str, Result]:
    """Return the results of trials, by digest, until the searches are whole or no more can be had."""
    listed, results = list(searches), dict[str, Result]()
    while due := {cell.digest: cell for search in listed for cell in search.progress(results).due}:
        fresh = results_of(list(due.values()))
        if not fresh:
            break
        results.update(fresh)
    return results


def choose(registry: Registry, cells: Sequence[Cell], results: Mapping[str, Result]) -> Choice:
    """Give each row the settings of the best trial of its search, where its search is whole."""
    searches = searches_of(registry, cells)
    progress = {key: search.progress(results) for key, search in searches.items()}
    chosen: list[Cell] = []
    records, unchosen = dict[str, TuningRecord](), dict[str, str]()
    for row in cells:
        search = searches.get(search_key(row)) if row.tuning else None  # a trial's key is none of these
        if search is None:
            chosen.append(row)
            continue
        trials, due = progress[search_key(row)]
        record = TuningRecord(trials, search.higher_is_better)
        best = None if due else record.best
        if best is None:
            chosen.append(row)
            unchosen[row.digest] = _why_unchosen(record, due)
        else:
            chosen.append(search.chosen(row, best, trials[best].settings))
            records[chosen[-1].digest] = record
    return Choice(tuple(chosen), records, unchosen, _due(searches, progress))


def trial_store(store: Store) -> Store:
    """Return where the trials of a suite's searches lie."""
    return Store(store.folder / TRIALS)


def set_superseded_aside(store: Store, cell: Cell) -> list[str]:
    """Set results aside that this cell of a row takes the place of; return their ids.

    A row whose settings could not be chosen, or were others before a failed trial ended well, has a result
    of another digest.
    """
    row, stem = row_cell(cell), cell.id.removesuffix(cell.digest[:10])
    superseded = []
    for path in sorted(store.folder.glob(f"{stem}*.json")):
        if path == store.path(cell):
            continue
        try:
            other = read_result(path).cell
        except StoreError:
            continue
        if other.tuning and _same_row(row_cell(other), row):
            store.set_aside(path)
            store.clear_job(other)
            superseded.append(other.id)
    return superseded


def _same_row(first: Cell, second: Cell) -> bool:
    """Return whether two cells are of one row: which settings are marked as defaults may differ."""
    algorithm = second.algorithm
    same = first.algorithm.name == algorithm.name and first.algorithm.settings == algorithm.settings
    return same and replace(first, algorithm=algorithm).digest == second.digest


def _trial(settings: Mapping[str, object], result: Result) -> Trial:
    scores = result.scores.per_task if result.scores and result.status == "ok" else ()
    mean = fmean(scores) if scores else None
    return Trial(dict(settings), str(result.status), mean, result.wall_seconds, result.cell.id)


def _why_unchosen(record: TuningRecord, due: Sequence[Cell]) -> str:
    if due:
        return f"{len(due)} trials of its search have no result"
    ends = ", ".join(sorted({trial.status for trial in record.trials}))
    return f"its settings could not be chosen: its {len(record.trials)} trials ended as {ends}"


def _due(searches: Mapping[str, Search], progress: Mapping[str, Progress]) -> int:
    """Return how many trials are to run; searches over the same space share theirs."""
    shared = {
        cell.digest
        for key, search in searches.items()
        if search.tuning.sampler in QUASI_RANDOM
        for cell in progress[key].due
    }
    others = [
        search.tuning.trials - len(progress[key].trials)
        for key, search in searches.items()
        if search.tuning.sampler not in QUASI_RANDOM
    ]
    return len(shared) + sum(others)
