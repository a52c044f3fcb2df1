"""Requests on the command line about a suite's cells: which of them, and on which backend."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from metabench.errors import RequestError, did_you_mean
from metabench.records.cell import Cell


def parse_spec(text: str) -> dict[str, Any]:
    """`cpu:threads=2,affinity=[0,1]` from the command line, as the table that stands for it in a suite."""
    name, _, rest = text.partition(":")
    table: dict[str, Any] = {"name": name}
    parts = [part for part in rest.split(",") if part]
    while parts:
        key, equals, value = parts.pop(0).partition("=")
        if not equals:
            raise RequestError(f"{text!r}: {key!r} is no setting; write NAME:setting=value,setting=value")
        while value.startswith(("[", '"')) and not _is_toml(value) and parts:
            value += f",{parts.pop(0)}"  # a comma inside of a list or a text
        table[key] = tomllib.loads(f"value = {value}")["value"] if _is_toml(value) else value
    return table


def _is_toml(value: str) -> bool:
    try:
        tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return False
    return True


def select(cells: Sequence[Cell], only: Sequence[str], skip: Sequence[str]) -> list[Cell]:
    """The cells that match every axis of `only` and none of `skip`; each reads `axis=value,value`.

    An axis is one of a cell's, such as `dataset`, or a component's setting: `algorithm.first_order=true`.
    Raises RequestError where an axis does not exist or no cell has one of its values.
    """
    if not only and not skip:
        return list(cells)
    axes = [_axes(cell) for cell in cells]
    wanted: dict[str, set[str]] = {}
    for text in only:
        axis, values = _condition(text, axes)
        wanted.setdefault(axis, set()).update(values)
    unwanted = [_condition(text, axes) for text in skip]
    return [
        cell
        for cell, own in zip(cells, axes, strict=True)
        if all(own.get(axis) in values for axis, values in wanted.items())
        and not any(own.get(axis) in values for axis, values in unwanted)
    ]


def values_of(text: str, there: Collection[str]) -> list[str]:
    """The values of `value,value`; one that is in `there` may hold commas itself.

    >>> values_of("maml (steps=1, rate=2),reptile", {"maml (steps=1, rate=2)", "reptile"})
    ['maml (steps=1, rate=2)', 'reptile']
    """
    words, found = text.split(","), []
    while words:
        ends = range(len(words), 1, -1)
        end = next((end for end in ends if ",".join(words[:end]) in there), 1)
        found.append(",".join(words[:end]))
        words = words[end:]
    return found


def _condition(text: str, axes: Sequence[Mapping[str, str]]) -> tuple[str, set[str]]:
    axis, equals, values = text.partition("=")
    there = {own[axis] for own in axes if axis in own}
    if not equals or not there:
        raise RequestError(
            f"{text!r} is not axis=value; {did_you_mean(axis, {name for own in axes for name in own})}"
        )
    asked = values_of(values, there)
    for value in asked:
        if value not in there:
            raise RequestError(f"no cell has {axis} {value!r}; {did_you_mean(value, there)}")
    return axis, set(asked)


def _axes(cell: Cell) -> dict[str, str]:
    backend = cell.backend.settings
    return {
        "algorithm": cell.algorithm.name,
        "network": cell.network.name if cell.network else "none",
        "dataset": cell.dataset.name,
        "backend": cell.backend.name,
        "ranks": str(cell.ranks),
        "threads": str(backend.get("threads", "none")),
        "ways": str(cell.test.ways),
        "shots": str(cell.test.shots),
        "queries": str(cell.test.queries),
        "train": str(cell.train or "none"),
        "steps": str(cell.budget.steps),
        "step_tasks": str(cell.budget.tasks),
        "metric": cell.evaluation.metric,
        "seed": str(cell.seed),
        "group": cell.group,
        "label": cell.label,
        "id": cell.id,
    } | _settings(cell)


def _settings(cell: Cell) -> dict[str, str]:
    """Every setting of the cell's components, as `algorithm.first_order` → `true`."""
    return {
        f"{kind}.{name}": value if isinstance(value, str) else json.dumps(value)
        for kind, spec in cell.components().items()
        for name, value in spec.settings.items()
    }
