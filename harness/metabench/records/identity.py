"""What makes two cells the same: the digest of everything that changes the number.

A field or a setting that equals its default is left out (rule 2, since schema 3 of results): a setting that
is added later, with a default under which nothing changes, leaves the digests of stored cells as they are.
The names of a component's settings that are at their defaults are stored with them (`Spec.defaults`), so that
a digest needs no plugin; `metabench verify` compares them with the class where it is installed.

Results of the schemas 1 and 2 keep the digest that they were stored under, by rule 1: it counts defaults too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Protocol

RULE = 2
"""The rule by which new digests are made."""

ANNOTATIONS = frozenset({"group", "label", "expect", "digest_rule"})
"""The fields of a cell that change no number, and so are part of no digest."""

COUNTED_BY_RULE_1 = frozenset({
    "steps", "tasks", "seconds", "validate_every", "validation_tasks", "target", "seed", "batch", "metric",
    "curve", "latency_tasks", "micro",
})  # fmt: skip
"""The fields with a default that rule 1 counts although they equal it: those that schema 2 had."""


class Counted(Protocol):
    """A record that says itself what of it changes the number."""

    def counted(self) -> Mapping[str, Any]:
        """Return what changes the number."""


def counted_fields(record: Any, rule: int = RULE) -> dict[str, Any]:
    """Return the fields of a record that its digest counts: all that differ from their defaults."""
    kind: type = type(record)
    return {
        name: value
        for name, default in _defaults(kind).items()
        if (value := getattr(record, name)) != default or (rule == 1 and name in COUNTED_BY_RULE_1)
    }


def counted_parts(record: Any, rule: int = RULE) -> dict[str, str]:
    """Return the counted fields of a cell as canonical JSON, without its annotations."""
    return {
        name: canonical_json(_counted_content(value, rule))
        for name, value in counted_fields(record, rule).items()
        if name not in ANNOTATIONS
    }


def digest_of_parts(parts: Mapping[str, str]) -> str:
    """Return the digest of fields that are canonical JSON already, as `digest_of` would of the fields."""
    text = ",".join(f'"{name}":{part}' for name, part in sorted(parts.items()))
    return hashlib.sha256(f"{{{text}}}".encode()).hexdigest()


def digest_of(content: Any) -> str:
    """SHA-256 of plain JSON values (records as their fields), written as `canonical_json`."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def canonical_json(content: Any) -> str:
    """JSON with sorted keys and no spaces, the same text for equal content; records are their fields."""
    return _ENCODER.encode(content)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=vars)


def _counted_content(value: Any, rule: int) -> Any:
    """Return what counts of a field's value, as plain JSON values."""
    if isinstance(value, tuple):
        return [_counted_content(member, rule) for member in value]
    if hasattr(value, "counted"):
        return value.counted()
    return counted_fields(value, rule) if is_dataclass(value) else value


@cache
def _defaults(record: type) -> dict[str, Any]:
    """Return the default of each field of a record class, MISSING where it has none."""
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(record)
    }
