"""Whether the values of a row are of the kinds that its annotations say: a file may hold anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_type_hints

from metabench.records.row import FurtherFields, Row, Series


def require_kinds(row: Row) -> None:
    """Raise ValueError where a value of the row is of another kind than its annotation."""
    values: Mapping[str, object] = row
    for name, (types, is_kind) in _checks().items():
        value = values[name]
        if type(value) not in types and not is_kind(value):
            raise ValueError(f"{name} is {value!r:.60}")
    if not all(steps.isdigit() for steps in row["curve"]):
        raise ValueError("the curve's steps are no whole numbers")


@cache
def _checks() -> dict[str, tuple[frozenset[type], Callable[[Any], bool]]]:
    """Return the check of each field of a row, after the types whose values all pass it."""
    hints = get_type_hints(Row).items()
    return {name: (frozenset(_SURE.get(kind, ())), _CHECK_OF[kind]) for name, kind in hints}


_SURE: Mapping[Any, tuple[type, ...]] = {
    int: (int,), int | None: (int, type(None)), str: (str,), Series: (str,), str | None: (str, type(None)),
    bool: (bool,), bool | None: (bool, type(None)), float | None: (type(None),),
}  # fmt: skip


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """Return whether a value is a finite number: NaN must never reach a page's data."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _optional(is_kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_kind(value)


_FURTHER: Mapping[str, Callable[[Any], bool]] = {
    "value": _optional(_is_number), "half_width": _optional(_is_number), "unit": _is_text,
    "higher_is_better": _is_flag, "pooled": _is_flag, "rescored": _is_text,
}  # fmt: skip
_CHECK_OF: Mapping[Any, Callable[[Any], bool]] = {
    int: is_whole,
    int | None: _optional(is_whole),
    float: _is_number,
    float | None: _optional(_is_number),
    str: _is_text,
    Series: _is_text,
    str | None: _optional(_is_text),
    bool: _is_flag,
    bool | None: _optional(_is_flag),
    list[str]: lambda value: isinstance(value, list) and all(map(_is_text, value)),
    dict[str, float]: lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    dict[str, FurtherFields]: lambda value: (
        isinstance(value, dict)
        and all(_FURTHER[name](field) for fields in value.values() for name, field in fields.items())
    ),
    list[list[float]]: lambda value: all(_is_number(figure) for point in value for figure in point),
}
