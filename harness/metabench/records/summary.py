"""One configuration on one machine over its seeds, with published counterparts of its score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from metabench.records.row import Averages, FurtherFields, Peaks, Shared

MARGINS = ((0.95, 0.005), (0.80, 0.01), (0.0, 0.02))
"""From which published accuracy on a result may be how far from it, beside both intervals, and agree."""

FROM_MEMORY = "memory"
"""A figure that nobody has looked up: results are set beside it without a verdict."""


@dataclass(frozen=True)
class Reference:
    """A published accuracy, a fraction, with its interval if reported; kind: paper or reproduction.

    checked: how its source was read: "checked" at the source itself, "quoted" in another text, or "memory".
    steps: the training steps that it was measured after, 0 where that is not known.
    """

    accuracy: float
    half_width: float | None
    kind: str
    source: str
    checked: str = "quoted"
    steps: int = 0

    @property
    def margin(self) -> float:
        """How far a result may be from it, beside both intervals: 0.5 points from 95 %, 1 from 80, else 2."""
        return next(margin for least, margin in MARGINS if self.accuracy >= least)

    def tolerance(self, half_width: float | None = None) -> float:
        """Return how far a result may be from it and agree; half_width: of the result."""
        return self.margin + (self.half_width or 0.0) + (half_width or 0.0) + 1e-9

    def __str__(self) -> str:
        half = f" ± {self.half_width * 100:.1f}" if self.half_width else ""
        return f"{self.accuracy * 100:.1f}{half} % ({self.kind}: {self.source})"


class Labels(TypedDict):
    """What a reader must know of a score and of times, in figures; `report.labels` has it in words."""

    overlap_unknown: bool  # whether groups may be in both what was trained on and what was tested
    code_label: str  # contract and code, where they are not those of today or not recorded
    transductive: bool
    transduction: str  # what the algorithm claims and what the check found, in words
    unstable: bool
    budget_limited: bool
    limited_reason: str
    kept: bool  # a state that an earlier cell learned was scored
    resumed: int  # how often cells of the configuration went on from a checkpoint
    unmeasured: int  # results of the configuration without a score
    reproduced: int  # known keys that signed a rerun of any seed which agrees
    not_reproduced: int  # … which does not
    warnings: list[str]  # what disturbed the times
    withdrawn: str  # why and when results of it were withdrawn; "" where none was


class Scored(TypedDict):
    """The mean score over seeds and tasks, its intervals, and its place among scores of the same tasks.

    half_width: half the interval over tasks (and seeds) of the same classes; new_half_width: half of one
    that holds for new classes too, None where the classes of the tasks were not recorded or nothing can be
    said of others; redrawn: what that redraws, in words; tested: what the tests behind the rank hold for,
    "classes" or "tasks"; ranking: the one that the rank is of, see `metabench.report.rankings`;
    ranking_place: its number among the rankings of these tasks; rivals: how many summaries were ranked
    together; detectable: the smallest difference that would have been found among them with a power of
    80 %; seed_share, task_share: fractions of the variance of a score; references: published figures of the
    same conditions, each with its verdict; unlike: where there is none, the nearest figure and what differs;
    further: what further metrics give that all of its results have, by title.
    """

    mean: float
    half_width: float | None
    new_half_width: float | None
    redrawn: str
    tested: str
    seed_share: float | None
    task_share: float | None
    ranking: str
    ranking_place: int
    rank: int | None
    rivals: int
    detectable: float | None
    references: tuple[Reference, ...]
    verdicts: tuple[str, ...]
    unlike: str
    further: dict[str, FurtherFields]


class Seeds(TypedDict):
    """The results that a summary is made of; positions: of their rows among all rows.

    steps_taken: the fewest and the most training steps of a seed; ended_by: what ended training, of any seed.
    """

    seeds: int
    seed_list: list[int]
    steps_taken: list[int]
    ended_by: list[str]
    tasks: int
    date: str
    positions: list[int]
    files: list[str]


class Deviations(TypedDict):
    """Standard deviations: of training time over seeds, of a step over the blocks of all seeds."""

    training_spread: float | None
    step_spread: float | None
    blocks: int


class Summary(Shared, Averages, Peaks, Deviations, Scored, Labels, Seeds):
    """One configuration on one machine over its seeds."""
