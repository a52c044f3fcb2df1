"""The referee of a results repository: what a pull request may add, verified, and one of its rows run again.

The row is drawn by chance and runs with test tasks of a seed that is drawn now, so that nobody could fit
anything to them; its mean must equal the row's within the margin of `metabench.stats.equivalence`. Nothing of
the pull request is executed: cells name plugins, and only distributions of the maintainer's list may provide
them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random, SystemRandom
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from metabench import stats
from metabench.errors import MetabenchError
from metabench.plugins import Registry, load
from metabench.publishing.installation import Installation
from metabench.publishing.publish import stale
from metabench.publishing.reproduce import read_installed, run_again
from metabench.publishing.submission import Submission
from metabench.publishing.verify import verify
from metabench.records.cell import Cell, Status
from metabench.records.files import read_result
from metabench.records.metric_scores import component_slots
from metabench.records.result import Result
from metabench.report.columns import task
from metabench.report.content import Content
from metabench.results.store import Store
from metabench.results.table import Results
from metabench.runner.execute import why_skipped
from metabench.text import one_line

MORE_TASKS = 4
"""A rerun is scored on so many times the tasks of its row: its own part of the uncertainty is small then."""
LARGEST_SEED = 2**31
MOST_LINES = 50


@dataclass(frozen=True)
class Judgement:
    """What the referee says.

    reasons: why a pull request is rejected; for_a_person: what the referee cannot judge; rerun: what was run
    again, and what came of it; tiers: how the ranking changes.
    """

    reasons: tuple[str, ...] = ()
    for_a_person: tuple[str, ...] = ()
    rerun: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """Return "rejected", "undecided" (a person has to look) or "accepted"."""
        return "rejected" if self.reasons else "undecided" if self.for_a_person else "accepted"

    def to_json(self) -> dict[str, Any]:
        """Return the judgement as plain JSON values: texts of one line, without control characters."""
        lists = {name: _bounded(getattr(self, name)) for name in self.__dataclass_fields__}
        return {"verdict": self.verdict, **lists}


@dataclass(frozen=True)
class Rules:
    """What the maintainers set: whose plugins may run, and the minutes that a rerun may take."""

    distributions: Collection[str]
    minutes: float = 30.0
    chance: Random = field(default_factory=SystemRandom)

    def allow(self, distribution: str) -> bool:
        """Return whether plugins of a distribution may run."""
        return _normal(distribution) in map(_normal, self.distributions)


def judge(base: Path, head: Path, rules: Rules) -> Judgement:
    """Judge a pull request: `base` is a copy of the repository without it, `head` one with it."""
    submission = Submission.between(base, head)
    registry = load()
    registry.silence()
    reasons = [*submission.violations(), *_errors(submission), *_foreign(submission, registry, rules)]
    open_questions = list(submission.for_a_person())
    rerun: list[str] = []
    if not reasons and submission.rows:
        outcome = _rerun_one(submission, registry, rules)
        rerun, reasons = list(outcome.lines), list(outcome.against)
        open_questions += outcome.undecided
    return Judgement(tuple(reasons), tuple(open_questions), tuple(rerun), tuple(_tier_changes(submission)))


def _errors(submission: Submission) -> Iterator[str]:
    """Yield the errors of `verify` that the repository did not have before."""
    if not submission.results.is_dir():
        return
    after = _findings(submission.head, submission)
    if after:
        yield from sorted(after - _findings(submission.base, submission))
    touched = [name for name in (*submission.added, *submission.changed) if name.startswith("results/")]
    if touched and stale(submission.results):
        yield "results/README.md is not what the results make: run metabench publish"


def _findings(repository: Path, submission: Submission) -> set[str]:
    results = repository / "results"
    if not results.is_dir():
        return set()
    errors = verify([results], complete=True, signers=submission.signers).errors
    return {
        f"{finding.file.removeprefix(f'{repository}/')}: {finding.check}: "
        f"{finding.what.replace(f'{repository}/', '')}"
        for finding in errors
    }


def _foreign(submission: Submission, registry: Registry, rules: Rules) -> Iterator[str]:
    """Yield the new rows of suites that are not installed, or made by plugins that are not on the list."""
    rows = list(_readable(submission))
    with Installation(registry) as installation:
        suites = installation.suites({result.cell.suite_folder for _, result in rows})
    for path, result in rows:
        name = path.relative_to(submission.head).as_posix()
        if result.cell.suite_folder not in suites:
            yield f"{name}: {result.cell.suite_folder} is no suite of this leaderboard"
        for _, kind, spec in component_slots(result.cell):
            entries = registry.entries(kind)
            if spec.name not in entries:
                yield f"{name}: no installed plugin provides the {kind} {spec.name!r}"
            elif not rules.allow(source := entries[spec.name].plugin.distribution):
                yield f"{name}: the {kind} {spec.name!r} is of {source}, which is not on the list of plugins"


def _readable(submission: Submission) -> Iterator[tuple[Path, Result]]:
    """Yield the new rows that can be read; `verify` names the others."""
    for path in submission.rows:
        try:
            yield path, read_result(path)
        except MetabenchError:
            continue


@dataclass(frozen=True)
class _Outcome:
    lines: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()


def _rerun_one(submission: Submission, registry: Registry, rules: Rules) -> _Outcome:
    """Run a new row again, drawn by chance among those that can run here in time."""
    candidates = [
        path for path, result in _readable(submission) if _can_rerun(result, registry, rules.minutes)
    ]
    if not candidates:
        return _Outcome(undecided=("none of the new rows can be run again here",))
    path = rules.chance.choice(candidates)
    name = path.relative_to(submission.head).as_posix()
    try:
        old, cell = read_installed(path, registry)
        cell = unforeseen(cell, rules.chance)
        with TemporaryDirectory() as folder:
            store = Store(Path(folder) / cell.suite_folder)
            new = run_again(registry, cell, old, store, timeout=60 * rules.minutes)
    except MetabenchError as error:
        return _Outcome(undecided=(f"{name} could not be run again: {error}",))
    what = f"{name}, drawn from {len(candidates)} of {len(submission.rows)} new rows, ran again"
    outcome = compare_means(old, new)
    return replace(outcome, lines=(f"{what} with the evaluation seed {cell.evaluation.seed}", *outcome.lines))


def _can_rerun(result: Result, registry: Registry, minutes: float) -> bool:
    cell = result.cell
    if result.status is not Status.OK or result.scores is None or cell.weights or cell.scored:
        return False
    return result.wall_seconds <= 60 * minutes and why_skipped(registry, cell, remote=False) is None


def unforeseen(cell: Cell, chance: Random) -> Cell:
    """Return the cell with test tasks of a seed that is drawn now, and more of them."""
    evaluation = replace(
        cell.evaluation, seed=chance.randrange(LARGEST_SEED), tasks=MORE_TASKS * cell.evaluation.tasks,
        curve=(), latency_tasks=0,
    )  # fmt: skip
    return replace(cell, evaluation=evaluation)


def compare_means(old: Result, new: Result) -> _Outcome:
    """Compare the mean scores of a row and of its rerun on other tasks."""
    if old.scores is None or new.scores is None or new.status is not Status.OK:
        return _Outcome(undecided=(f"the rerun ended as {new.status}: {new.reason or 'no reason'}",))
    before, after = (np.asarray(scores.per_task, np.float64) for scores in (old.scores, new.scores))
    share = old.scores.unit == "share"
    difference = stats.unpaired_difference(after, before)
    margin = stats.equal_margin(before, after, share=share)
    scale, unit = (100, " points") if share else (1, "")
    line = (
        f"the mean differs by {float(difference.mean) * scale:+.3g} ± "
        f"{float(difference.half_width()) * scale:.2g}{unit}, margin {margin * scale:.3g}{unit}"
    )
    if float(difference.p_equal(margin)) <= stats.EQUAL_LEVEL:
        return _Outcome((f"{line}: equivalent",))
    if stats.p_beyond(difference, margin) <= stats.EQUAL_LEVEL:
        return _Outcome((line,), against=(f"the rerun does not give the row's score: {line}",))
    return _Outcome((line,), undecided=("the rerun shows neither equivalence nor a difference",))


def _tier_changes(submission: Submission) -> Iterator[str]:
    """Yield the rows whose tier is another with the pull request than without it."""
    before, after = (_tiers(place / "results") for place in (submission.base, submission.head))
    for row in sorted(before.keys() | after.keys()):
        old, new = before.get(row), after.get(row)
        if row not in before:
            yield f"{row}: new, {_tier(new)}"
        elif row not in after:
            yield f"{row}: gone, was {_tier(old)}"
        elif old != new:
            yield f"{row}: {_tier(old)} before, {_tier(new)} now"


def _tiers(results: Path) -> Mapping[str, int | None]:
    if not results.is_dir():
        return {}
    return {
        f"{s['suite']} v{s['version']}, {s['dataset']} {task(s)}: {s['method']}, "
        f"{s['network'] or 'no network'}, {s['backend']} × {s['ranks']}, on {s['machine']} "
        f"[{s['configuration'][:6]}]": s["rank"]
        for s in Content.of(Results.read([results])).ranked
    }


def _tier(rank: int | None) -> str:
    return "no tier" if rank is None else f"tier {rank}"


def _normal(distribution: str) -> str:
    """Return the name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _bounded(lines: Collection[str]) -> list[str]:
    texts = [one_line(line)[:500] for line in list(lines)[:MOST_LINES]]
    more = len(lines) - len(texts)
    return [*texts, f"and {more} more"] if more else texts
