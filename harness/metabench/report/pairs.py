"""Two sets of results, paired cell by cell and seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metabench.errors import RequestError
from metabench.records.cell import Status
from metabench.records.row import Row
from metabench.results.table import Results
from metabench.text import printable


@dataclass(frozen=True)
class Pair:
    """The results of one cell on both sides, as positions of rows.

    matched: a result of each side for every seed that both scored; lost: the new status of a seed that only
    the base scored ("absent" where there is no result), empty where none was lost.
    """

    base: Results
    new: Results
    base_positions: Sequence[int]
    new_positions: Sequence[int]
    matched: Sequence[tuple[int, int]]
    lost: str

    @property
    def first(self) -> Row:
        """The row that names the cell."""
        if self.new_positions:
            return self.new.rows[self.new_positions[0]]
        return self.base.rows[self.base_positions[0]]

    @property
    def left_out(self) -> list[str]:
        """The files of scored results that another result of their seed was preferred to."""
        seeds = {self.base.rows[i]["seed"] for i, _ in self.matched}
        base, new = ({pair[side] for pair in self.matched} for side in (0, 1))
        return [
            results.rows[i]["file"]
            for results, positions, kept in (
                (self.base, self.base_positions, base), (self.new, self.new_positions, new),
            )
            for seed, of_seed in by_seed(results, positions).items()
            for i in of_seed
            if i not in kept and seed in seeds
        ]  # fmt: skip


def pairs(base: Results, new: Results) -> list[Pair]:
    """Return every cell of both sides; two single results are paired whatever their cells and seeds are.

    Raises RequestError where the two sides have a suite in different versions.
    """
    if len(base) == len(new) == 1:
        return [_pair(base, new, [0], [0])]
    _require_common_versions(base, new)
    cells: dict[str, tuple[list[int], list[int]]] = {}
    for side, results in enumerate((base, new)):
        for i, row in enumerate(results.rows):
            cells.setdefault(row["match"], ([], []))[side].append(i)
    return [_pair(base, new, ours, theirs) for ours, theirs in cells.values()]


def by_seed(results: Results, positions: Sequence[int]) -> dict[int, list[int]]:
    """Return the scored results of each seed: several where other machines or versions made the cell too."""
    seeds: dict[int, list[int]] = {}
    for i in positions:
        row = results.rows[i]
        if row["status"] == Status.OK and row["count"]:
            seeds.setdefault(row["seed"], []).append(i)
    return seeds


def _pair(base: Results, new: Results, ours: Sequence[int], theirs: Sequence[int]) -> Pair:
    before, after = by_seed(base, ours), by_seed(new, theirs)
    if len(ours) == len(theirs) == len(before) == len(after) == 1:  # two single results, of whatever seeds
        before, after = dict.fromkeys([0], *before.values()), dict.fromkeys([0], *after.values())
    lost = set(before) - set(after)
    status = ""
    if lost:
        status = next((new.rows[i]["status"] for i in theirs if new.rows[i]["seed"] in lost), "absent")
    seeds = sorted(set(before) & set(after))
    matched = [_latest(base, new, before[seed], after[seed]) for seed in seeds]
    return Pair(base, new, ours, theirs, matched, status)


def _latest(base: Results, new: Results, ours: Sequence[int], theirs: Sequence[int]) -> tuple[int, int]:
    """Return the latest results of a seed that one machine made, or the latest of either side."""
    return max(
        ((a, b) for a in ours for b in theirs),
        key=lambda pair: (
            base.rows[pair[0]]["machine"] == new.rows[pair[1]]["machine"],
            base.rows[pair[0]]["started"],
            new.rows[pair[1]]["started"],
        ),
    )


def _require_common_versions(base: Results, new: Results) -> None:
    """Raise RequestError where a suite of both sides has no version in common."""
    ours, theirs = _versions(base), _versions(new)
    apart = [
        f"{name} is version {_listed(ours[name])} in the base results, "
        f"{_listed(theirs[name])} in the new ones"
        for name in sorted(set(ours) & set(theirs))
        if not ours[name] & theirs[name]
    ]
    if apart:
        raise RequestError(
            f"{printable('; '.join(apart))}: versions of a suite measure different things, so their cells "
            "cannot be paired; run the same version on both sides"
        )


def _versions(results: Results) -> dict[str, set[int]]:
    """Return the versions of each suite among the results."""
    versions: dict[str, set[int]] = {}
    for row in results.rows:
        versions.setdefault(row["suite"], set()).add(row["version"])
    return versions


def _listed(versions: set[int]) -> str:
    return " and ".join(map(str, sorted(versions)))
