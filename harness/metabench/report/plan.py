"""What a wanted precision takes: test tasks, test classes and training seeds, by protocol of a suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import NamedTuple, TypedDict

from metabench import stats
from metabench.records.protocol import Protocol
from metabench.records.section import Column, Section
from metabench.report.columns import number, text
from metabench.report.summary import Summaries
from metabench.text import ABSENT

SEEDS = (1, 3, 5, 10)
"""Numbers of training seeds that a plan is made for."""

MOST_PAIRS = 200
"""Pairs of rows whose differences a plan looks at."""


class PlannedProtocol(NamedTuple):
    """Test tasks that a suite asks for: their data set, protocol and number, and the classes there are."""

    dataset: str
    protocol: Protocol
    tasks: int
    classes: int


@dataclass(frozen=True)
class Wanted:
    """Half-width of the interval of one row, and the true difference of two rows that is to be found."""

    precision: float
    difference: float


class Spreads(NamedTuple):
    """How scores of one protocol vary, and differences of two rows; rows: of stored results, 0: assumed.

    seeds_known: whether several seeds showed how much they vary; groups: how many are redrawn.
    """

    score: stats.Spread
    difference: stats.Spread
    rows: int = 0
    seeds_known: bool = True
    groups: int = 0


class PlanLine(TypedDict):
    """What one aim takes on one protocol with so many seeds; None: no number reaches it.

    now: what the suite gives as it is, in the unit of a score.
    """

    dataset: str
    task: str
    aim: str
    seeds: int
    now: float
    tasks: int | None
    classes: int | None
    own_tasks: int
    own_classes: int
    source: str


def assumed(task: float, class_share: float, seed: float, ways: int) -> Spreads:
    """Return spreads from assumptions, in the unit of a score.

    task: the standard deviation of a task's score, class_share: the fraction of its variance that its classes
    explain; seed: the standard deviation between seeds. Differences of rows are taken to vary as much as
    scores, which is the most that rows which agree on no task differ by.
    """
    spread = stats.Spread(
        task**2 * (1 - class_share) / 2,
        seed**2,
        task**2 * (1 - class_share) / 2,
        task**2 * class_share / ways,
    )
    return Spreads(spread, spread)


def measured(source: Summaries, protocol: PlannedProtocol) -> Spreads | None:
    """Return the median spreads of the rows of a protocol; None where none recorded its classes."""
    results = source.results
    rows = [
        summary["positions"]
        for summary in source.ranked
        if (summary["dataset"], summary["task"]) == (protocol.dataset, str(protocol.protocol))
        and summary["unit"] == "share"
    ]
    matrices = [(positions, results.score_matrix(positions), results.redraw(positions)) for positions in rows]
    scored = [(scores, redraw) for _, scores, redraw in matrices if scores is not None and redraw is not None]
    if not scored:
        return None
    own = [stats.spread_of(scores, redraw) for scores, redraw in scored]
    apart = [
        stats.spread_of(first[:seeds] - second[:seeds], redraw)
        for (first, redraw), (second, other) in list(combinations(scored, 2))[:MOST_PAIRS]
        if redraw is other and first.shape[1] == second.shape[1]
        for seeds in [min(len(first), len(second))]
    ]
    seeds_known = any(len(scores) > 1 for scores, _ in scored)
    groups = scored[0][1].group_count
    return Spreads(_typical(own), _typical(apart or own), len(scored), seeds_known, groups)


def _typical(spreads: Sequence[stats.Spread]) -> stats.Spread:
    """Return the median of each variance; of those of seeds over the rows that have any."""
    of_seeds = [spread for spread in spreads if spread.rest] or spreads
    return stats.Spread(
        task=median(spread.task for spread in spreads),
        seed=median(spread.seed for spread in of_seeds),
        rest=median(spread.rest for spread in of_seeds),
        units=median(spread.units for spread in spreads),
        groups=median(spread.groups for spread in spreads),
        seed_units=median(spread.seed_units for spread in of_seeds),
    )


def plan(spreads: Mapping[PlannedProtocol, Spreads], wanted: Wanted) -> Section[PlanLine]:
    """Return what both aims take on each protocol with each number of seeds."""
    records = [line for protocol, spread in spreads.items() for line in _lines(protocol, spread, wanted)]
    columns: list[Column[PlanLine]] = [
        text("dataset", "data set", quiet=True),
        text("task", "task", quiet=True),
        text("aim", "aim"),
        text("seeds", "seeds", right=True),
        number("now", "as it is", scale=100),
        Column("test tasks", lambda line: _number(line["tasks"]), right=True, key="tasks"),
        text("own_classes", "with classes", right=True),
        Column("test classes", lambda line: _number(line["classes"]), right=True, key="classes"),
        text("own_tasks", "with tasks", right=True),
        text("source", "from", quiet=True),
    ]
    return Section("plan", "Plan", records, columns, NOTES)


NOTES = (
    "Test tasks: the fewest with the test classes that there are; test classes: the fewest with the test "
    "tasks of the suite; as it is: what these tasks and classes give, in points. – : no number reaches the "
    "aim; the other one, or the seeds, must grow too.",
    "An interval is of 95 % and holds for new classes; a difference is found with a chance of 80 % by one "
    "paired test at 5 %; corrected for many rows, as tiers are, it takes more. With one seed either says "
    "nothing of other seeds; from few seeds their spread is known badly, which tables pool over a board.",
)


def _lines(protocol: PlannedProtocol, spreads: Spreads, wanted: Wanted) -> list[PlanLine]:
    aims = (
        (f"± {100 * wanted.precision:g} points of a row", wanted.precision, spreads.score, False),
        (f"{100 * wanted.difference:g} points between rows", wanted.difference, spreads.difference, True),
    )
    return [
        _line(protocol, spreads, aim, seeds, width, spread, power)
        for aim, width, spread, power in aims
        for seeds in SEEDS
    ]


def _line(
    protocol: PlannedProtocol, spreads: Spreads, aim: str, seeds: int, width: float, spread: stats.Spread,
    power: bool,
) -> PlanLine:  # fmt: skip
    design = stats.Design(protocol.tasks, protocol.classes, seeds, protocol.protocol.ways, spreads.groups)
    unknown = "" if spreads.seeds_known else ", of one seed: the spread between seeds is left out"
    return {
        "dataset": protocol.dataset,
        "task": str(protocol.protocol),
        "aim": aim,
        "seeds": seeds,
        "now": (stats.detectable if power else stats.planned_half_width)(spread, design),
        "tasks": stats.tasks_for(width, spread, design, power=power),
        "classes": stats.classes_for(width, spread, design, power=power),
        "own_tasks": protocol.tasks,
        "own_classes": protocol.classes,
        "source": f"{spreads.rows} stored rows{unknown}" if spreads.rows else "assumptions",
    }


def _number(value: int | None) -> str:
    return ABSENT if value is None else f"{value:,}"
