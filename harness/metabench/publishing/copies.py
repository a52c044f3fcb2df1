"""Results that are copies: one cell stored twice, or one training passed off as that of another seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from metabench.publishing.findings import Finding
from metabench.publishing.members import Member

NEAR = 1e-4
"""Losses that differ by less than this fraction count as equal: those of two seeds differ by a per cent."""
MOST = 0.9
"""The fraction of losses that have to be equal for two trainings to be one."""
NEIGHBOURS = 20
"""Trainings are compared with so many others whose median loss is the next larger."""
FEWEST_LOSSES = 3
FEWEST_TASKS = 10
"""So many scores have to differ from the most frequent one: a board where all are right shows nothing."""


def copy_findings(members: Sequence[Member]) -> Iterator[Finding]:
    """A second result of a cell on one machine; a result with the training or the scores of another seed."""
    seen: dict[tuple[str, str], Member] = {}
    groups: dict[tuple[object, ...], list[Member]] = {}
    for member in members:
        first = seen.setdefault((member.row["digest"], member.machine), member)
        if first is not member:
            yield Finding(member.path, "seeds", f"a second result of the cell in {first.path}")
        elif member.scored and member.trained:
            row = member.row
            key = (row["algorithm"], row["algorithm_settings"], len(member.losses), row["count"])
            groups.setdefault(key, []).append(member)
    for group in groups.values():
        for first, second in sorted(_candidates(group), key=lambda pair: pair[1].path):
            what = _shared(first, second) if first.seed != second.seed else ""
            if what:
                yield Finding(
                    second.path, "seeds", f"its {what} are those of seed {first.seed} in {first.path}"
                )


def _candidates(members: Sequence[Member]) -> Iterator[tuple[Member, Member]]:
    """Pairs of the same scores, and of nearly the same median loss, which may be copies."""
    by_scores: dict[bytes, Member] = {}
    for member in members:
        first = by_scores.setdefault(member.scores.tobytes(), member)
        if first is not member:
            yield first, member
    with_losses = [member for member in members if len(member.losses)]
    medians = np.array([np.median(member.losses) for member in with_losses])
    order = np.argsort(medians, kind="stable").tolist()
    for place, i in enumerate(order):
        for j in order[place + 1 : place + 1 + NEIGHBOURS]:
            if medians[j] - medians[i] <= NEAR * max(abs(medians[i]), abs(medians[j])):
                yield with_losses[min(i, j)], with_losses[max(i, j)]


def _shared(first: Member, second: Member) -> str:
    """What two results of different seeds have in common that two trainings never have."""
    same_scores = _tell(first.scores) and np.array_equal(first.scores, second.scores)
    same_losses = _near(first.losses, second.losses)
    return " and ".join(name for name, same in (("scores", same_scores), ("losses", same_losses)) if same)


def _tell(scores: NDArray[np.float64]) -> bool:
    """Whether scores vary enough for equal ones to be a copy."""
    _, counts = np.unique(scores, return_counts=True)
    return bool(len(scores) - counts.max() >= FEWEST_TASKS)


def _near(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    if len(first) < FEWEST_LOSSES or len(np.unique(first)) < FEWEST_LOSSES:
        return False
    return bool(np.isclose(first, second, rtol=NEAR, atol=0.0).mean() >= MOST)
