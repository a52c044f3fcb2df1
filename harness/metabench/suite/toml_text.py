"""The text of a suite file from its table: what `tomllib` reads back as the same table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def suite_text(document: Mapping[str, Any]) -> str:
    """Return the text of a suite file: its head, its defaults, and its cells, each with its sweep."""
    head = {key: value for key, value in document.items() if key not in ("defaults", "cells")}
    parts = [_lines(head), "[defaults]\n" + _lines(document["defaults"])]
    for entry in document["cells"]:
        own = {key: value for key, value in entry.items() if key != "sweep"}
        parts.append("[[cells]]\n" + _lines(own))
        if "sweep" in entry:
            parts.append("[cells.sweep]\n" + _lines(entry["sweep"]))
    return "\n".join(parts)


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{_key(key)} = {toml_value(value)}\n" for key, value in table.items())


def toml_value(value: Any) -> str:
    """Return a value as TOML writes it; raises TypeError for None and other things that TOML lacks."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {toml_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    raise TypeError(f"TOML has no way to write {value!r}")


def _key(key: str) -> str:
    return key if BARE_KEY.fullmatch(key) else toml_value(key)
