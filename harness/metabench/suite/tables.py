"""The tables of a suite file: the keys that they may have, and how those of an entry are put together."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from metabench.records.cell import COMPONENTS

TABLES = ("test", "train", "budget", "evaluation", "tune")
CELL_KEYS = (*COMPONENTS, *TABLES, "seeds", "group", "label", "expect", "weights")
SUITE_KEYS = ("name", "version", "title", "description", "minutes", "earlier_texts", "defaults", "cells")


def merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return `own` over `defaults`; the tables of protocols and budgets merge key by key."""
    table = copy.deepcopy(dict(defaults))
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(table.get(key), Mapping)
        table[key] = {**table[key], **value} if both and key in TABLES else copy.deepcopy(value)
    return table


def put(table: dict[str, Any], key: str, value: Any) -> None:
    """Put `value` at a dotted key; a component that is only a name becomes a table."""
    first, _, rest = key.partition(".")
    if not rest:
        both = isinstance(value, Mapping) and isinstance(table.get(first), Mapping) and first in TABLES
        table[first] = {**table[first], **value} if both else copy.deepcopy(value)
        return
    inner = table.get(first, {})
    if isinstance(inner, str) and first in COMPONENTS:
        inner = {"name": inner}
    if isinstance(inner, Mapping):  # anything else is a mistake that is reported of the table itself
        table[first] = {**inner, rest: copy.deepcopy(value)}
