"""Runs the cell of a stored result again, from nothing but its file, and compares the numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from metabench import stats
from metabench.errors import RequestError, StoreError
from metabench.plugins import Registry, load
from metabench.records.cell import Budget, Cell, Evaluation, Protocol
from metabench.records.files import read_result
from metabench.records.result import Result
from metabench.results.store import Store
from metabench.runner import Plan, Warn, execute
from metabench.settings import complete, make
from metabench.suite.suite import Suite
from metabench.text import printable

FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,239}")


@dataclass(frozen=True)
class Reproduction:
    """The old and the new result, and what comparing them says; agrees: None where nothing can be told."""

    old: Result
    new: Result
    agrees: bool | None
    lines: tuple[str, ...]


def reproduce(path: Path, results: Path, quiet: bool = False, warn: Warn | None = None) -> Reproduction:
    """Runs the cell of the result in `path` and stores the new result in `results`.

    The new result names the plugins that made it, and the suite file of the old one. Raises RequestError
    where the file holds no result, a component of its cell is not installed, or the cell makes no sense.
    """
    try:
        old = read_result(path)
    except StoreError as error:
        raise RequestError(printable(str(error))) from error
    registry = load()
    try:
        cell = _installed(registry, _checked(old.cell))
    except (RequestError, TypeError, AttributeError) as error:  # the latter: a field of another type
        raise RequestError(printable(f"{path}: {error}")) from error
    suite = Suite(cell.suite, cell.suite_version, f"{cell.id} again", path, (cell,))
    store = Store(results / suite.folder)
    if store.path(old.cell).absolute() == path.absolute():
        raise RequestError(f"{path}: the new result would replace it; name another folder with --results")
    if quiet:
        registry.silence()
    digest = str(old.environment.get("suite_digest", ""))
    outcome = execute(Plan(registry, suite, store, (cell,), {}, rerun=True, suite_digest=digest), warn)
    new = outcome.results[0]
    agrees, lines = compare(old, new)
    told = (*_versions(old.cell, new.cell), *lines)
    return Reproduction(old, new, agrees, tuple(map(printable, told)))


def compare(old: Result, new: Result) -> tuple[bool | None, tuple[str, ...]]:
    """Whether the scores of two results of one cell agree, and what to say of it."""
    if new.scores is None or old.scores is None:
        same = old.status == new.status
        return same, (f"outcome: {old.status} before, {new.status} now ({new.reason or 'no reason'})",)
    if old.scores.manifest != new.scores.manifest or len(old.scores.per_task) != len(new.scores.per_task):
        return False, ("the test tasks are others: the data set, or how it is drawn, has changed",)
    before, after = (np.asarray(one.scores.per_task) for one in (old, new) if one.scores is not None)
    lines = [_times(old, new)]
    if np.array_equal(before, after):
        return True, ("every task scores exactly as before", *lines)
    found = stats.difference(after[None], before[None])
    share = old.scores.unit == "share"
    margin = stats.equal_margin(before, after, share=share)
    difference, half = float(found.mean), float(found.half_width())
    told = (
        f"{difference * 100:+.2f} ± {half * 100:.2f} points" if share else f"{difference:+.4g} ± {half:.2g}"
    )
    if stats.equal_scores(after[None], before[None], share=share):
        return True, (f"scores agree within {margin:.3g}: {told} over the same tasks", *lines)
    if float(found.p_value()) <= 0.05:
        return False, (f"scores differ: {told} over the same tasks", *lines)
    return None, (f"neither agreement nor a difference is shown: {told} over the same tasks", *lines)


def _times(old: Result, new: Result) -> str:
    here, there = new.environment.get("machine"), old.environment.get("machine")
    seconds = [one.training.seconds if one.training else 0.0 for one in (old, new)]
    where = "on the same kind of machine" if here == there else f"there {there}, here {here}"
    return f"training took {seconds[0]:.3g} s before, {seconds[1]:.3g} s now ({where}, not side by side)"


def _checked(cell: Cell) -> Cell:
    """The cell, if its numbers are numbers and its names can be names of files; raises RequestError."""
    for name, value in (("suite_version", cell.suite_version), ("seed", cell.seed)):
        if type(value) is not int or value < 0:
            raise RequestError(f"its {name} is {value!r}, no whole number")
    for name, cls in (
        ("test", Protocol),
        ("train", Protocol),
        ("budget", Budget),
        ("evaluation", Evaluation),
    ):
        record = getattr(cell, name)
        if isinstance(record, cls):
            make(cls, vars(record))
    if not isinstance(cell.suite, str) or not FOLDER_NAME.fullmatch(cell.suite):
        raise RequestError(f"its suite {cell.suite!r} cannot be the name of a folder")
    if not FILE_NAME.fullmatch(cell.id):
        raise RequestError(f"its cell {cell.id!r} cannot be the name of a file")
    return cell


def _installed(registry: Registry, cell: Cell) -> Cell:
    """The cell with the plugins that bring its components here; raises RequestError where one is absent."""
    plugins: dict[str, str] = {}
    for kind, spec in cell.components().items():
        try:
            entry = registry.find(kind, spec.name)
        except RequestError as error:
            source = cell.plugins.get(kind, "a plugin")
            raise RequestError(f"{error}; the result was made with {source}: install it") from error
        complete(entry.cls, spec.settings)
        plugins[kind] = entry.source
    return replace(
        cell, plugins={kind: plugins[kind] for kind in (*cell.plugins, *plugins) if kind in plugins}
    )


def _versions(old: Cell, new: Cell) -> Sequence[str]:
    return [
        f"{kind} {spec.name!r}: made with {old.plugins.get(kind, 'an unknown plugin')}, here is {source}"
        for kind, spec in new.components().items()
        if (source := new.plugins[kind]) != old.plugins.get(kind)
    ]
