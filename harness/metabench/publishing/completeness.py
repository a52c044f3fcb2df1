"""Whether results are the whole of their suite on a machine: every cell, every seed, and nothing else.

Versions of plugins may differ from those installed here, and so may the backend, where one that the suite
does not name replaced all of its own (`metabench run --backend`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from metabench.publishing.findings import Finding
from metabench.publishing.installation import Installation, InstalledSuite
from metabench.publishing.members import Member, configuration_of
from metabench.records.cell import COMPONENTS, Cell
from metabench.records.identity import RULE
from metabench.records.tuning import row_cell

LISTED = 3
"""At most so many missing cells are named."""


@dataclass(frozen=True)
class MissingResults:
    """What the results of one suite on one machine lack, and the results that are none of the suite's.

    suite: `quick-v1`; missing: in words; foreign: files whose cell is not of the suite.
    """

    suite: str
    machine: str
    folder: str
    missing: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


class CellKeys(NamedTuple):
    """Digests that are equal for cells of one measurement, whatever their seed and versions of plugins."""

    full: str
    without_backend: str
    backend: str


def cell_keys(cells: Iterable[Cell], installation: Installation) -> dict[str, CellKeys]:
    """The keys of cells, by `configuration_of`, with their components as a suite would name them here.

    A cell with searched settings has the keys of the suite's row.
    """
    listed = [(key, row_cell(cell)) for key, cell in {configuration_of(c): c for c in cells}.items()]
    parts = [
        (at, kind, spec)
        for at, (_, cell) in enumerate(listed)
        for kind, spec in cell.components().items()
        if kind in COMPONENTS
    ]
    specs = installation.completed((kind, spec) for _, kind, spec in parts)
    replaced: list[dict[str, object]] = [{} for _ in listed]
    for (at, kind, _), spec in zip(parts, specs, strict=True):
        replaced[at][kind] = spec
    return {
        configuration: _keys(replace(cell, digest_rule=RULE, **changes))  # type: ignore[arg-type]  # its fields
        for (configuration, cell), changes in zip(listed, replaced, strict=True)
    }


def _keys(cell: Cell) -> CellKeys:
    backend = f"{cell.backend.name} {sorted(cell.backend.settings.items())}"
    return CellKeys(cell.key(("seed", "plugins")), cell.key(("seed", "plugins", "backend")), backend)


def members_by_machine(members: Iterable[Member]) -> dict[tuple[str, str], list[Member]]:
    """The members of each suite on each machine."""
    groups: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        groups.setdefault((member.suite, member.machine), []).append(member)
    return groups


def missing_results(
    members: Iterable[Member],
    suites: Mapping[str, InstalledSuite],
    keys: Mapping[str, CellKeys],
    installation: Installation,
) -> Iterator[MissingResults]:
    """What each suite and machine lacks, if anything; other suites than these are judged by seeds."""
    for (suite, machine), group in members_by_machine(members).items():
        if suite in suites:
            missing, foreign = _compare(Matching(suites[suite], group, keys), group, installation)
        else:
            missing, foreign = list(_uneven_seeds(group, installation)), []
        if missing or foreign:
            folder = group[0].path.rpartition("/")[0]
            yield MissingResults(suite, machine, folder, tuple(missing), tuple(foreign))


class Matching:
    """Which cells of an installed suite the results of one machine are of.

    Where all results have one backend that no cell of the suite names, it replaced the suite's own.
    """

    def __init__(
        self, suite: InstalledSuite, members: Sequence[Member], keys: Mapping[str, CellKeys]
    ) -> None:
        self.keys = keys
        backends = {keys[member.configuration].backend for member in members}
        own = {keys[configuration_of(cell)].backend for cell in suite.cells}
        self.overridden = len(backends) == 1 and not backends & own
        self.cells: dict[str, list[Cell]] = {}
        for cell in suite.cells:
            self.cells.setdefault(self._key(keys[configuration_of(cell)]), []).append(cell)

    def key(self, member: Member) -> str:
        """The key under which the cells of a member stand in `cells`, where there are any."""
        return self._key(self.keys[member.configuration])

    def _key(self, keys: CellKeys) -> str:
        return keys.without_backend if self.overridden else keys.full

    def cells_of(self, member: Member) -> list[Cell]:
        """The cells of the suite, of any seed, that the member's settings are those of."""
        return self.cells.get(self.key(member), [])


def annotation_findings(members: Sequence[Member], matching: Matching) -> Iterator[Finding]:
    """Results whose group, label or expected outcomes are not those that the suite gives their cell."""
    for member in members:
        cells = matching.cells_of(member)
        asked = {(cell.group, cell.label, cell.expect) for cell in cells}
        own = member.annotations
        if not cells or own in asked:
            continue
        group, label, expect = min(
            asked, key=lambda other: sum(a != b for a, b in zip(own, other, strict=True))
        )
        for name, value, wanted in (
            ("group", own[0], group),
            ("label", own[1], label),
            ("expect", ", ".join(own[2]), ", ".join(expect)),
        ):
            if value != wanted:
                what = f"its {name} is {value!r:.60}, {member.suite} says {wanted!r:.60}"
                yield Finding(member.path, "suite", what)


def _compare(
    matching: Matching, members: Sequence[Member], installation: Installation
) -> tuple[list[str], list[str]]:
    """What the suite's cells lack, in words, and the files whose cell is none of the suite."""
    wanted = {(key, cell.seed): cell for key, cells in matching.cells.items() for cell in cells}
    present = {(matching.key(member), member.seed) for member in members}
    known = set(matching.cells)
    missing = list(_listed([cell.id for at, cell in wanted.items() if at not in present], len(wanted)))
    seeded = {
        key for key, cells in matching.cells.items() if not installation.runs_once(cells[0].algorithm.name)
    }
    for seed in sorted({seed for key, seed in present - set(wanted) if key in seeded}):
        count = sum((key, seed) in present for key in seeded)
        if count < len(seeded):
            missing.append(
                f"{count} of {len(seeded)} cells have seed {seed} beyond the suite's: all or none do"
            )
    return missing, [member.path for member in members if matching.key(member) not in known]


def _listed(lacking: Sequence[str], of: int) -> Iterator[str]:
    if lacking:
        more = f" and {len(lacking) - LISTED} more" if len(lacking) > LISTED else ""
        yield f"{len(lacking)} of {of} cells lack a result: {', '.join(lacking[:LISTED])}{more}"


def _uneven_seeds(members: Sequence[Member], installation: Installation) -> Iterator[str]:
    """The cells that lack a seed which others of their group have; some algorithms need no more than one."""
    seeds: dict[tuple[str, str], set[int]] = {}
    of_group: dict[str, set[int]] = {}
    cells: dict[str, str] = {}
    for member in members:
        if installation.runs_once(member.components["algorithm"]):
            continue
        group, configuration = member.annotations[0], member.row["configuration"]
        seeds.setdefault((group, configuration), set()).add(member.seed)
        of_group.setdefault(group, set()).add(member.seed)
        cells.setdefault(configuration, member.row["cell"])
    for (group, configuration), own in seeds.items():
        lacking = sorted(of_group[group] - own)
        if lacking:
            yield f"{cells[configuration]} lacks seed {', '.join(map(str, lacking))}, which others have"
