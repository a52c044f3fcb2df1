"""Checks of searched settings: they are those of the best trial, and the trials are what their files say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from metabench.errors import StoreError
from metabench.publishing.checks import check_result
from metabench.publishing.findings import Finding
from metabench.publishing.installation import Installation
from metabench.publishing.members import Member
from metabench.publishing.task_draws import TaskSet
from metabench.records.cell import Cell, Status
from metabench.records.document import DocumentError, read_document
from metabench.records.result import Result
from metabench.records.tuning import QUASI_RANDOM, Trial, Tuning, TuningRecord, inside, row_cell, trial_cell
from metabench.results.cache import TRIALS
from metabench.runner.samplers import draw_trials

CELL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,239}")


def tuning_findings(members: Iterable[Member], installation: Installation) -> Iterator[Finding]:
    """Yield what is wrong with the searches of these results, and with the files of their trials."""
    trials = _TrialFiles(installation)
    for member in members:
        if member.search is None:
            continue
        try:
            faults = list(_faults(member, *member.search, trials))
        except Exception as error:  # whatever a foreign file makes of its search
            faults = [f"its search cannot be read: {type(error).__name__}: {error}"[:300]]
        yield from (Finding(member.path, "tuning", what) for what in faults)
    yield from trials.findings()


def trial_files(path: Path, record: TuningRecord) -> list[Path]:
    """Return where the trials of the result in `path` lie; raises StoreError for a name that is no file's."""
    names = [trial.cell for trial in record.trials]
    for name in names:
        if not CELL_ID.fullmatch(name):
            raise StoreError(f"{path}: a trial is called {name!r:.60}, which no file of a cell can be")
    return [path.parent / TRIALS / f"{name}.json" for name in names]


def _faults(member: Member, cell: Cell, record: TuningRecord | None, trials: _TrialFiles) -> Iterator[str]:
    """Yield what contradicts the search of one result, in words."""
    tuning = Tuning(**cell.tuning)
    if tuning.trial is not None and Path(member.path).parent.name != TRIALS:
        yield f"is a trial of a search, scored on validation tasks: it belongs in the folder {TRIALS}"
    elif tuning.trial is not None or cell.scored:  # a state's own result has the search
        return
    elif tuning.chosen is None:
        if member.row["status"] == Status.OK:
            yield "its settings must be those of a trial, its cell says of none"
    elif record is None:
        yield "lacks the trials that its settings were chosen from"
    else:
        yield from _choice_faults(tuning, cell, record, member)
        yield from _draw_faults(tuning, record)
        for number, (path, trial) in enumerate(
            zip(trial_files(Path(member.path), record), record.trials, strict=True)
        ):
            what = trials.fault(path, trial, cell, number)
            if what:
                yield f"trial {number}: {what}"


def _choice_faults(tuning: Tuning, cell: Cell, record: TuningRecord, member: Member) -> Iterator[str]:
    if member.scored and record.higher_is_better != member.row["higher_is_better"]:
        yield "higher_is_better of its trials is not that of its metric"
    if record.best is None or record.best != tuning.chosen:
        yield f"its settings are those of trial {tuning.chosen}, the best trial is {record.best}"
        return
    own = {name: cell.algorithm.settings[name] for name in tuning.base}
    if own != record.trials[record.best].settings:
        yield f"its settings are not those of trial {tuning.chosen}, which was the best"


def _draw_faults(tuning: Tuning, record: TuningRecord) -> Iterator[str]:
    """Yield where the settings of trials are not those that the sampler draws, or lie outside the space."""
    settings = [trial.settings for trial in record.trials]
    if tuning.sampler in QUASI_RANDOM:
        drawn = draw_trials(tuning, range(tuning.trials), [], record.higher_is_better)
        if len(drawn) != len(settings):
            yield f"has {len(settings)} trials, its search has {len(drawn)}"
        for number, (own, wanted) in enumerate(zip(settings, drawn, strict=False)):
            if own != wanted:
                yield f"trial {number}: its settings are {own}, {tuning.sampler} draws {dict(wanted)}"[:300]
        return
    if len(settings) != tuning.trials:
        yield f"has {len(settings)} trials, its search has {tuning.trials}"
    for number, own in enumerate(settings):
        in_space = all(inside(axis, own[name]) for name, axis in tuning.space.items())
        if own != tuning.base if number == 0 else not in_space:
            yield f"trial {number}: its settings {own} are not of its search"[:300]


class _Read(NamedTuple):
    """A trial that was read from its file, or why it was not."""

    result: Result | None
    problem: str = ""


class _TrialFiles:
    """The files of trials, each read and checked once: the seeds of a row share them."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.files: dict[Path, _Read] = {}
        self.of_files: list[Finding] = []

    def fault(self, path: Path, trial: Trial, cell: Cell, number: int) -> str:
        """Return what in a file contradicts a trial as a result states it; "" where they agree."""
        result, problem = self._read(path)
        if result is None:
            return problem
        row, own = row_cell(cell), result.cell.algorithm
        wanted = {**row.algorithm.settings, **trial.settings}
        if own.name != row.algorithm.name or own.settings != wanted:
            return f"{path.name} has other settings"
        if result.cell.digest != trial_cell(row, number, own).digest:
            return f"{path.name} is of another search"
        scores = result.scores.per_task if result.scores and result.status is Status.OK else ()
        measured = (str(result.status), fmean(scores) if scores else None, result.wall_seconds)
        if measured != (trial.status, trial.score, trial.seconds):
            stated = (trial.status, trial.score, trial.seconds)
            return f"status, score and seconds are {stated}, in {path.name} they are {measured}"
        return ""

    def _read(self, path: Path) -> _Read:
        if path not in self.files:
            try:
                document = read_document(path)
                result = Result.from_json(document)
                self.of_files += check_result(path, document, result, self.installation)
                self.files[path] = _Read(result)
            except DocumentError as error:
                self.files[path] = _Read(None, f"{TRIALS}/{path.name}: {error}")
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                self.files[path] = _Read(None, f"{TRIALS}/{path.name}: no result: {error}"[:300])
        return self.files[path]

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong with the files, and trials whose tasks are not the validation tasks."""
        yield from self.of_files
        scored = {
            path: read.result
            for path, read in self.files.items()
            if read.result is not None and read.result.scores is not None
        }
        drawn = self.installation.draw(TaskSet.of(result.cell) for result in scored.values())
        for path, result in scored.items():
            digest = drawn[TaskSet.of(result.cell)].digest
            if result.scores is not None and digest not in (None, result.scores.manifest):
                what = "the tasks that it scores are not the validation tasks of its data set"
                yield Finding(str(path), "manifest", what)
