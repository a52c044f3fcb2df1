"""Whether results are the whole of their suite on a machine: every cell, every seed, and nothing else.

Versions of plugins may differ from those installed here, and so may the backend, where one that the suite
does not name took the place of all of its own (`metabench run --backend`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from metabench.errors import MetabenchError
from metabench.folders import file_digest
from metabench.records.cell import COMPONENTS, Cell, Spec, digest_of
from metabench.records.result import Result
from metabench.results.rows import row_of
from metabench.settings import complete

if TYPE_CHECKING:
    from metabench.plugins import Registry

LISTED = 3


@dataclass(frozen=True)
class Standard:
    """A suite as it is installed: its cells, and the SHA-256 of its file.

    registry: where settings that a plugin has gained since are looked up; None: not at all.
    """

    cells: Sequence[Cell]
    digest: str
    registry: Registry | None = None


@dataclass(frozen=True)
class Gaps:
    """What the results of one suite on one machine lack and have too much.

    suite: `quick-v1`; missing: in words; foreign: files whose cell is not of the suite.
    """

    suite: str
    machine: str
    folder: str
    missing: tuple[str, ...] = ()
    foreign: tuple[Path, ...] = ()


def standards(folders: Sequence[str]) -> dict[str, Standard]:
    """The suites of these folders (`quick-v1`), as far as they are installed in that version."""
    from metabench.plugins import load
    from metabench.suite.suite import installed_suites, read

    registry = load()
    found: dict[str, Standard] = {}
    for name in installed_suites(registry):
        if not any(folder.rpartition("-v")[0] == name for folder in folders):
            continue
        try:
            suite = read(registry, name)
        except MetabenchError:  # its data set or plugin is not here: completeness is judged by the seeds
            continue
        if suite.folder in folders:
            digest = file_digest(suite.path)
            found[suite.folder] = Standard(suite.cells, digest, registry)
    return found


def gaps(results: Mapping[Path, Result], suites: Mapping[str, Standard]) -> Iterator[Gaps]:
    """The gaps of each suite and machine that have some; suites that are not here are judged by seeds."""
    groups: dict[tuple[str, str], dict[Path, Result]] = {}
    for path, result in results.items():
        suite = result.cell.suite_folder
        machine = str(result.environment.get("machine"))
        groups.setdefault((suite, machine), {})[path] = result
    for (suite, machine), members in groups.items():
        if suite in suites:
            missing, foreign = _against(suites[suite], members)
        else:
            missing, foreign = list(_uneven_seeds(members)), []
        if missing or foreign:
            folder = str(next(iter(members)).parent)
            yield Gaps(suite, machine, folder, tuple(missing), tuple(foreign))


def _against(suite: Standard, members: Mapping[Path, Result]) -> tuple[list[str], list[Path]]:
    """What the suite's cells lack, in words, and the files whose cell is none of the suite."""
    made = {digest_of(_completed(suite, "backend", result.cell.backend)) for result in members.values()}
    own = {digest_of(_completed(suite, "backend", cell.backend)) for cell in suite.cells}
    overridden = len(made) == 1 and not made & own
    without = ["seed", "plugins", *(["backend"] if overridden else [])]

    def key(cell: Cell) -> str:
        components = {kind: cell.components().get(kind) for kind in COMPONENTS}
        completed = {kind: spec and _completed(suite, kind, spec) for kind, spec in components.items()}
        return replace(cell, **completed).key(without)  # type: ignore[arg-type]  # kinds are fields

    wanted = {(key(cell), cell.seed): cell for cell in suite.cells}
    have = {path: (key(result.cell), result.cell.seed) for path, result in members.items()}
    there, known = set(have.values()), {each for each, _ in wanted}
    missing = list(_listed([cell.id for at, cell in wanted.items() if at not in there], len(wanted)))
    for seed in sorted({seed for each, seed in there - set(wanted) if each in known}):
        some = sum((each, seed) in there for each in known)
        if some < len(known):
            missing.append(
                f"{some} of {len(known)} cells have seed {seed} beyond the suite's: all or none do"
            )
    return missing, [path for path, (each, _) in have.items() if each not in known]


def _listed(lacking: Sequence[str], of: int) -> Iterator[str]:
    if lacking:
        more = f" and {len(lacking) - LISTED} more" if len(lacking) > LISTED else ""
        yield f"{len(lacking)} of {of} cells lack a result: {', '.join(lacking[:LISTED])}{more}"


def _completed(suite: Standard, kind: str, spec: Spec) -> Spec:
    """The component with the settings that a later version of its plugin has added filled in."""
    if suite.registry is None:
        return spec
    try:
        return Spec(spec.name, complete(suite.registry.find(kind, spec.name).cls, spec.settings))
    except MetabenchError:  # not installed here, or a setting is gone: compared as it is stored
        return spec


def _uneven_seeds(members: Mapping[Path, Result]) -> Iterator[str]:
    """The cells that lack a seed which others of their group have."""
    rows = [row_of(result)[0] for result in members.values()]
    seeds: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        seeds.setdefault((row["group"], row["configuration"]), set()).add(row["seed"])
    for (group, configuration), have in seeds.items():
        every = set().union(*(each for (other, _), each in seeds.items() if other == group))
        if have != every:
            cell = next(row["cell"] for row in rows if row["configuration"] == configuration)
            lack = ", ".join(map(str, sorted(every - have)))
            yield f"{cell} lacks seed {lack}, which others have"
