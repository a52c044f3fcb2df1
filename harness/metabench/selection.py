"""Requests on the command line about a suite's cells: which of them, and on which backend."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

from metabench.errors import RequestError, known
from metabench.records import Cell


def parse_spec(text: str) -> dict[str, Any]:
    """`cpu-ranks:ranks=2,threads=1` from the command line, as the table that stands for it in a suite."""
    name, _, rest = text.partition(":")
    table: dict[str, Any] = {"name": name}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise RequestError(f"{text!r}: {part!r} is no setting; write NAME:setting=value,setting=value")
        try:
            table[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            table[key] = value
    return table


def select(cells: Sequence[Cell], only: Sequence[str], skip: Sequence[str]) -> list[Cell]:
    """The cells that match every axis of `only` and none of `skip`; each reads `axis=value,value`.

    Raises RequestError where an axis does not exist or a value of `only` matches no cell.
    """
    wanted = [_condition(text, cells) for text in only]
    unwanted = [_condition(text, cells) for text in skip]
    axes: dict[str, set[str]] = {}
    for axis, values in wanted:
        axes.setdefault(axis, set()).update(values)
    kept = [cell for cell in cells if all(_axes(cell)[a] in v for a, v in axes.items())]
    return [cell for cell in kept if not any(_axes(cell)[a] in v for a, v in unwanted)]


def _condition(text: str, cells: Sequence[Cell]) -> tuple[str, set[str]]:
    axis, equals, values = text.partition("=")
    names = list(_axes(cells[0])) if cells else []
    if not equals or axis not in names:
        raise RequestError(f"{text!r} is no axis=value; {known(axis, names)}")
    asked = set(values.split(","))
    there = {_axes(cell)[axis] for cell in cells}
    if asked - there:
        strange = sorted(asked - there)[0]
        raise RequestError(f"no cell has {axis} {strange!r}; {known(strange, there)}")
    return axis, asked


def _axes(cell: Cell) -> dict[str, str]:
    return {
        "algorithm": cell.algorithm.name,
        "network": cell.network.name if cell.network else "none",
        "dataset": cell.dataset.name,
        "backend": cell.backend.name,
        "ranks": str(cell.backend.settings.get("ranks", 1)),
        "ways": str(cell.test.ways),
        "shots": str(cell.test.shots),
        "seed": str(cell.seed),
        "group": cell.group,
        "label": cell.label,
        "id": cell.id,
    }
