"""The search for an algorithm's settings: what a cell says of it, and the record of its trials.

A search tries several settings on meta-validation and keeps the best. Each trial is a cell of its own, scored
on validation tasks; the row's cells then run with the chosen settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from metabench.records.cell import Cell, Evaluation, Spec, Status

QUASI_RANDOM = ("sobol", "halton")
"""Samplers whose trials follow from the seed alone, so that all may run side by side."""
OPTUNA = ("tpe",)
"""Samplers of Optuna, which draw trials by the scores of earlier ones."""
SAMPLERS = (*QUASI_RANDOM, *OPTUNA)
SCALES = ("log", "linear")

SIGNIFICANT = 3
"""Significant digits of a float that a search tries: a digest must not depend on a machine's last bit."""

TRIAL_GROUP = "tuning"
"""The group of the cells of trials."""
TRIAL_EXPECT = (str(Status.DIVERGED), str(Status.OUT_OF_MEMORY))
"""How a trial may end besides ok: settings that a search tries need not be good."""


@dataclass(frozen=True)
class Tuning:
    """What `Cell.tuning` says of the search for the settings of the cell's algorithm.

    Trial 0 has the settings `base`, as the suite states them; the others are drawn by `sampler` from `space`:
    by setting, [low, high, "log" or "linear"] or {"choices": […]}. seed: of the sampler and of the trials'
    training; trials: how many settings the search tries (0 in the cell of a trial: more may follow);
    patience: of the trials, where it is not the row's; at_once: how many an Optuna sampler draws at a time.
    trial: the number of this trial; chosen: the number of the trial whose settings the cell has. A cell with
    neither is the row itself, whose settings are not yet chosen.
    """

    space: Mapping[str, Any]
    base: Mapping[str, Any]
    sampler: str
    seed: int
    trials: int = 0
    patience: int = 0
    at_once: int = 0
    trial: int | None = None
    chosen: int | None = None

    @classmethod
    def of(cls, cell: Cell) -> Tuning | None:
        """Return what a cell says of its search, None where it has none; raises TypeError on other fields."""
        return cls(**cell.tuning) if cell.tuning else None

    @property
    def of_row(self) -> bool:
        """Whether the cell is the row itself, whose settings are not yet chosen."""
        return self.trial is None and self.chosen is None

    def to_json(self) -> dict[str, Any]:
        """Return the search as `Cell.tuning` has it, without what equals its default."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    def round_of(self, number: int) -> range:
        """Return the numbers of the trials that are drawn together with this one."""
        if self.sampler in QUASI_RANDOM:
            return range(self.trials)
        first = number - number % self.at_once
        return range(first, min(first + self.at_once, self.trials))


@dataclass(frozen=True)
class Trial:
    """One trial of a search, as the results of the chosen cells state it.

    settings: those that the search varies; score: the mean over the validation tasks, None unless the status
    is ok; seconds: of the whole cell; cell: its id, which names its file.
    """

    settings: Mapping[str, Any]
    status: str
    score: float | None
    seconds: float
    cell: str


@dataclass(frozen=True)
class TuningRecord:
    """The trials of a search by number; higher_is_better: of their scores."""

    trials: tuple[Trial, ...]
    higher_is_better: bool

    @property
    def seconds(self) -> float:
        """What the search cost: the seconds of all of its trials."""
        return math.fsum(trial.seconds for trial in self.trials)

    @property
    def best(self) -> int | None:
        """The number of the best trial, the first of equals; None where no trial has a score."""
        return self.best_of(len(self.trials))

    def best_of(self, count: int) -> int | None:
        """Return the number of the best of the first `count` trials."""
        sign = 1 if self.higher_is_better else -1
        scores = [(sign * t.score, -n) for n, t in enumerate(self.trials[:count]) if t.score is not None]
        return -max(scores)[1] if scores else None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TuningRecord:
        """Return the record that a result's JSON holds; raises KeyError or TypeError on anything else."""
        return cls(tuple(Trial(**trial) for trial in document["trials"]), document["higher_is_better"])


def trial_cell(row: Cell, number: int, algorithm: Spec) -> Cell:
    """Return the cell of a trial: it scores validation tasks, and has nothing to do with the test split.

    row: the cell of the suite whose settings are searched; algorithm: with the settings to try.
    """
    tuning = _tuning(row)
    own = replace(tuning, trial=number, trials=0, chosen=None)
    patience = tuning.patience or row.budget.patience
    scoring = row.evaluation
    return replace(
        row,
        algorithm=algorithm,
        budget=replace(row.budget, patience=patience, target=None),
        evaluation=Evaluation(row.budget.validation_tasks, scoring.seed, scoring.batch, scoring.metric),
        test_dataset=None,
        plugins={
            slot: source
            for slot, source in row.plugins.items()
            if slot != "test_dataset" and not slot.startswith("metric:")
        },
        seed=tuning.seed,
        group=TRIAL_GROUP,
        expect=TRIAL_EXPECT,
        tuning=own.to_json(),
    )


def chosen_cell(row: Cell, number: int, algorithm: Spec) -> Cell:
    """Return the row's cell with the settings of the trial of this number."""
    return replace(row, algorithm=algorithm, tuning=replace(_tuning(row), chosen=number).to_json())


def row_cell(cell: Cell) -> Cell:
    """Return the cell of the suite that a cell with chosen settings belongs to; others as they are.

    Which of its settings are defaults is only known for those that the search leaves alone.
    """
    tuning = Tuning.of(cell)
    if tuning is None or tuning.chosen is None:
        return cell
    spec = cell.algorithm
    defaults = tuple(name for name in spec.defaults if name not in tuning.base)
    algorithm = Spec(spec.name, {**spec.settings, **tuning.base}, defaults)
    return replace(cell, algorithm=algorithm, tuning=replace(tuning, chosen=None).to_json())


def value_at(axis: Sequence[Any] | Mapping[str, Any], position: float) -> Any:
    """Return the value of an axis of a space at a position in [0, 1)."""
    if isinstance(axis, Mapping):
        choices = axis["choices"]
        return choices[int(position * len(choices))]
    low, high, scale = axis
    whole = isinstance(low, int)
    top = high + 1 if whole else high
    value = low * (top / low) ** position if scale == "log" else low + (top - low) * position
    return rounded(axis, math.floor(value) if whole else value)


def rounded(axis: Sequence[Any] | Mapping[str, Any], value: Any) -> Any:
    """Return a value of an axis as a search tries it: of few digits, within the axis."""
    if isinstance(axis, Mapping):
        return value
    low, high, _ = axis
    number = value if isinstance(low, int) else float(f"{value:.{SIGNIFICANT}g}")
    return min(max(number, low), high)


def inside(axis: Sequence[Any] | Mapping[str, Any], value: Any) -> bool:
    """Return whether a value lies on an axis."""
    if isinstance(axis, Mapping):
        return value in axis["choices"]
    low, high, _ = axis
    return type(value) is type(low) and bool(low <= value <= high)


def size_of(space: Mapping[str, Any]) -> float:
    """Return how many settings a space has: infinity where a float varies."""
    sizes = []
    for axis in space.values():
        if isinstance(axis, Mapping):
            sizes.append(len(axis["choices"]))
        elif isinstance(axis[0], int):
            sizes.append(axis[1] - axis[0] + 1)
        else:
            return math.inf
    return math.prod(sizes)


def _tuning(row: Cell) -> Tuning:
    tuning = Tuning.of(row)
    if tuning is None:
        raise ValueError(f"{row.id}: its settings are not searched")
    return tuning
