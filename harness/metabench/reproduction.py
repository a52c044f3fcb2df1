"""Runs the cell of a stored result again, from nothing but its file, and compares the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metabench import stats
from metabench.errors import RequestError, StoreError
from metabench.plugins import Registry, load
from metabench.records import Cell
from metabench.result import Result
from metabench.runner import Plan, execute, silence
from metabench.scaling import PARITY_RELATIVE, PARITY_SHARE
from metabench.store import Store, read_result
from metabench.suite import Suite


@dataclass(frozen=True)
class Reproduction:
    """The old and the new result, and what comparing them says; agrees: None where nothing can be told."""

    old: Result
    new: Result
    agrees: bool | None
    lines: tuple[str, ...]


def reproduce(path: Path, results: Path, quiet: bool = False) -> Reproduction:
    """Runs the cell of the result in `path` and stores the new result in `results`.

    Raises RequestError where the file holds no result, or a component of the cell is not installed.
    """
    try:
        old = read_result(path)
    except StoreError as error:
        raise RequestError(str(error)) from error
    registry = load()
    _require(registry, old.cell)
    cell = old.cell
    suite = Suite(cell.suite, cell.suite_version, f"{cell.id} again", path, (cell,))
    store = Store(results / suite.folder)
    if store.path(cell).absolute() == path.absolute():
        raise RequestError(f"{path}: the new result would replace it; name another folder with --results")
    if quiet:
        silence(registry)
    outcome = execute(Plan(registry, suite, store, (cell,), {}, "local", None))
    new = outcome.results[0]
    agrees, lines = compare(old, new)
    return Reproduction(old, new, agrees, (*_versions(registry, cell), *lines))


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
    margin = PARITY_SHARE if share else PARITY_RELATIVE * abs(float(before.mean()))
    difference, half = float(found.mean), float(found.half_width())
    told = (
        f"{difference * 100:+.2f} ± {half * 100:.2f} points" if share else f"{difference:+.4g} ± {half:.2g}"
    )
    if float(found.p_equal(margin)) <= 0.05:
        return True, (f"scores agree within {margin:.3g}: {told} over the same tasks", *lines)
    if float(found.p_value()) <= 0.05:
        return False, (f"scores differ: {told} over the same tasks", *lines)
    return None, (f"neither agreement nor a difference is shown: {told} over the same tasks", *lines)


def _times(old: Result, new: Result) -> str:
    here, there = new.environment.get("machine"), old.environment.get("machine")
    seconds = [one.training.seconds if one.training else 0.0 for one in (old, new)]
    where = "on the same kind of machine" if here == there else f"there {there}, here {here}"
    return f"training took {seconds[0]:.3g} s before, {seconds[1]:.3g} s now ({where}, not side by side)"


def _require(registry: Registry, cell: Cell) -> None:
    for kind in ("algorithm", "network", "dataset", "backend"):
        spec = getattr(cell, kind)
        if spec is not None:
            try:
                registry.find(kind, spec.name)
            except RequestError as error:
                source = cell.plugins.get(kind, "a plugin")
                raise RequestError(f"{error}; the result was made with {source}: install it") from error


def _versions(registry: Registry, cell: Cell) -> Sequence[str]:
    told = []
    for kind, source in cell.plugins.items():
        spec = cell.evaluation.metric if kind == "metric" else getattr(cell, kind, None)
        name = spec if isinstance(spec, str) else getattr(spec, "name", None)
        if name is None or name not in registry.entries(kind):
            continue
        here = registry.find(kind, name).source
        if here != source:
            told.append(f"{kind} {name!r}: made with {source}, here is {here}")
    return told
