"""What a rerun says of a stored result: equal to the bit, to rounding, within the margin, or not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from metabench import stats
from metabench.publishing.members import tested_plugin
from metabench.records.cell import Status
from metabench.records.result import Result, Scores

Array = NDArray[np.float64]

SCORE_ROUNDING = 1e-6
"""Scores that differ by no more than this, relative to their size or to 1 for shares, are rounded alike."""
NEAR_LOSSES = 1e-4
"""Losses that agree to this fraction are of one training, with other rounding."""
NEAR_SCORES = 1e-2
"""By so much other rounding may move a score that is no share, relative to the mean."""
FLIPPED = 0.02
"""The fraction of tasks in which other rounding may change an answer, where the losses agree."""
ONE_SIDED = 0.95
"""Reruns move scores up and down; where this fraction of many tasks moves one way, the scores were moved."""
MANY_TASKS = 20
TIME_FACTOR = 3.0
"""By this factor training may take longer or shorter on the same machine: others may have been busy on it."""
SHORTEST_SECONDS = 1.0
"""Shorter trainings are not judged by their time."""


class Verdict(StrEnum):
    """Whether a rerun gave what the stored result says."""

    EXACT = "reproduced to the bit"
    ROUNDING = "reproduced to rounding"
    MARGIN = "reproduced within the margin"
    OUTCOME = "reproduced, the same outcome"
    DIFFERENT = "not reproduced"
    UNDECIDED = "undecided"

    @property
    def reproduced(self) -> bool:
        """Whether the rerun confirms the stored result."""
        return self not in (Verdict.DIFFERENT, Verdict.UNDECIDED)

    @property
    def confirms(self) -> bool | None:
        """Whether the rerun confirms or contradicts the stored result; None where it does neither."""
        return None if self is Verdict.UNDECIDED else self.reproduced


@dataclass(frozen=True)
class Comparison:
    """The verdict and what it rests on, in lines for a reader."""

    verdict: Verdict
    lines: tuple[str, ...]


def compare(old: Result, new: Result) -> Comparison:
    """Compares two results of one cell: outcomes, then scores over the same test tasks, then times."""
    if old.scores is None or new.scores is None:
        verdict, line = _compare_outcomes(old, new)
        return Comparison(verdict, (line,))
    if old.scores.manifest != new.scores.manifest or len(old.scores.per_task) != len(new.scores.per_task):
        same_plugin = tested_plugin(old.cell) == tested_plugin(new.cell)
        verdict = Verdict.DIFFERENT if same_plugin else Verdict.UNDECIDED
        return Comparison(
            verdict, ("the test tasks are others: the data set, or how it is drawn, has changed",)
        )
    verdict, line = _compare_scores(old, new, old.scores, new.scores)
    agrees, times = _compare_times(old, new)
    if not agrees and verdict.reproduced:
        verdict = Verdict.DIFFERENT
    return Comparison(verdict, tuple(filter(None, (line, times))))


def _compare_outcomes(old: Result, new: Result) -> tuple[Verdict, str]:
    """The verdict where one of two results has no scores."""
    before, now = f"{old.status} before", f"{new.status} now ({new.reason or 'no reason'})"
    if not new.status.measured:
        return Verdict.UNDECIDED, f"nothing ran here: {before}, {now}"
    if old.status is Status.OK and old.scores is None:
        return Verdict.UNDECIDED, f"the file has no scores that could be compared; {now}"
    if old.status == new.status:
        if old.reason == new.reason:
            return Verdict.OUTCOME, f"{new.status} before and now: {new.reason or 'no reason'}"
        return (
            Verdict.UNDECIDED,
            f"{new.status} for another reason: {old.reason!r} before, {new.reason!r} now",
        )
    if old.status.honest and new.status.honest:
        return Verdict.DIFFERENT, f"another outcome: {before}, {now}"
    return Verdict.UNDECIDED, f"another outcome, which may be of the machine: {before}, {now}"


def _compare_scores(old: Result, new: Result, first: Scores, second: Scores) -> tuple[Verdict, str]:
    before, after = np.asarray(first.per_task, np.float64), np.asarray(second.per_task, np.float64)
    if np.array_equal(before, after):
        return Verdict.EXACT, "every task scores exactly as before"
    share = first.unit == "share"
    scale = 1.0 if share else max(abs(float(before.mean())), abs(float(after.mean())))
    moved = after - before
    if (np.abs(moved) <= SCORE_ROUNDING * scale).all():
        return Verdict.ROUNDING, f"every task scores as before, to {np.abs(moved).max():.1g}"
    shift = _moved_text(before, after, share)
    why = _edited(old, new, moved, SCORE_ROUNDING * scale, SCORE_ROUNDING if share else NEAR_SCORES * scale)
    if why:
        return Verdict.DIFFERENT, f"{why}: {shift}"
    margin = stats.equal_margin(before, after, share=share)
    if stats.equal_scores(after[None], before[None], share=share):
        return Verdict.MARGIN, f"scores agree within {margin:.3g}, but shifted: {shift}"
    if float(stats.difference(after[None], before[None]).p_value()) <= stats.EQUAL_LEVEL:
        return Verdict.DIFFERENT, f"scores differ: {shift}"
    return Verdict.UNDECIDED, f"neither agreement nor a difference is shown: {shift}"


def _moved_text(before: Array, after: Array, share: bool) -> str:
    difference = stats.difference(after[None], before[None])
    mean, half = float(difference.mean), float(difference.half_width())
    text = f"{mean * 100:+.2f} ± {half * 100:.2f} points" if share else f"{mean:+.4g} ± {half:.2g}"
    higher, lower = int((after > before).sum()), int((after < before).sum())
    return (
        f"{text} over the same tasks, in {higher + lower} of {len(before)} tasks "
        f"({higher} higher now, {lower} lower)"
    )


def _edited(old: Result, new: Result, moved: Array, rounding: float, tolerance: float) -> str:
    """Why scores that moved cannot be those of an honest rerun; empty where they can.

    rounding: scores that move by less did not move; tolerance: by how much other rounding may move one.
    """
    likeness = _training_likeness(old, new)
    changed = int((np.abs(moved) > rounding).sum())
    if likeness == 0.0:
        return "the cell repeats to the bit, but its scores do not"
    far = int((np.abs(moved) > tolerance).sum())
    if likeness <= NEAR_LOSSES and far > max(1.0, FLIPPED * len(moved)):
        return "the training repeats to rounding, but its scores do not"
    one_way = max(int((moved > rounding).sum()), int((moved < -rounding).sum()))
    if changed >= MANY_TASKS and one_way >= ONE_SIDED * changed:
        return "nearly all scores that moved moved the same way, which no rerun does"
    return ""


def _training_likeness(old: Result, new: Result) -> float:
    """The largest relative difference of two trainings' losses: 0 where they are one to the bit.

    A cell that trains nothing repeats to the bit on the same machine with the same packages.
    """
    first, second = (result.training.losses if result.training else () for result in (old, new))
    if not first and not second:
        return 0.0 if _same_place(old, new) else NEAR_LOSSES
    if [step for step, _ in first] != [step for step, _ in second]:
        return float("inf")
    a, b = (np.array([loss for _, loss in losses], np.float64) for losses in (first, second))
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.abs(a - b) / np.maximum(np.abs(a), np.abs(b))
    return float(np.where(a == b, 0.0, apart).max())


def _same_place(old: Result, new: Result) -> bool:
    names = ("machine", "packages", "device")
    return all(old.environment.get(name) == new.environment.get(name) for name in names)


def _compare_times(old: Result, new: Result) -> tuple[bool, str]:
    """Whether training took about as long, where that can be said, and the times in words."""
    if old.training is None or new.training is None or not old.training.steps or not new.training.steps:
        return True, ""
    first, second = (training.seconds / training.steps for training in (old.training, new.training))
    here, there = new.environment.get("machine"), old.environment.get("machine")
    where = "on the same kind of machine" if here == there else f"there {there}, here {here}"
    text = f"training took {old.training.seconds:.3g} s before, {new.training.seconds:.3g} s now ({where}"
    longest = max(old.training.seconds, new.training.seconds)
    if here != there or longest < SHORTEST_SECONDS:
        return True, f"{text}, not compared)"
    if not max(first, second) <= TIME_FACTOR * min(first, second):
        return False, f"times differ by more than a factor of {TIME_FACTOR:g}: {text})"
    return True, f"{text}, within a factor of {TIME_FACTOR:g})"
