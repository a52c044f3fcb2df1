"""The JSON Schema of a result file, made from the records themselves.

python -m metabench.records.schema        writes result.schema.json, which is shipped with the package
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from metabench.records.protocol import Batches, Protocol, VariedProtocol
from metabench.records.result import SCHEMA, Result

ABSENT_AT_DEFAULT = frozenset({"tuning", "logs"})
"""The fields of a result that a file lacks where they are at their defaults."""


def schema() -> dict[str, Any]:
    """The schema of what `Result.to_json` writes, by JSON Schema's draft 2020-12."""
    record = _record(Result)
    record["properties"] |= {
        "digest": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "of the cell"},
        "mean": {"type": ["number", "null"], "description": "mean of the per-task scores"},
        "seal": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "of everything else"},
        "schema": {"const": SCHEMA},
    }
    record["required"] = sorted(record["properties"].keys() - ABSENT_AT_DEFAULT)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"metabench result, schema {SCHEMA}",
        "description": " ".join((Result.__doc__ or "").split()),
        **record,
    }


def stored() -> dict[str, Any]:
    """The schema that is shipped with the package."""
    text = files("metabench.records").joinpath("result.schema.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def _record(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    properties = {name: _type(hints[name]) for name in names}
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(f.name for f in dataclasses.fields(cls) if not f.metadata.get("optional")),
        "additionalProperties": cls is Result,
    }


def _type(hint: Any) -> dict[str, Any]:
    if hint == Protocol | Batches | None or set(get_args(hint)) == {Protocol, Batches, type(None)}:
        episodes = [_kind(cls, "episodes") for cls in (Protocol, VariedProtocol)]
        return {"anyOf": [*episodes, _kind(Batches, "batches"), {"type": "null"}]}
    if hint is Protocol:
        return {"anyOf": [_record(Protocol), _record(VariedProtocol)]}
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_type(option) for option in get_args(hint)]}
    if origin is Literal:
        return {"enum": list(get_args(hint))}
    if origin is tuple:
        inner = get_args(hint)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return {"type": "array", "items": _type(inner[0])}
        return {"type": "array", "prefixItems": [_type(item) for item in inner], "maxItems": len(inner)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _type(get_args(hint)[1])}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": sorted(hint)}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _record(hint)
    if hint is float:
        return {"type": ["number", "null"]}  # a number that is none (a loss that diverged) is null
    plain = {str: "string", int: "integer", bool: "boolean", type(None): "null"}
    return {"type": plain[hint]} if hint in plain else {}


def _kind(cls: type, kind: str) -> dict[str, Any]:
    record = _record(cls)
    record["properties"]["kind"] = {"const": kind}
    record["required"] = sorted([*record["required"], "kind"])
    return record


if __name__ == "__main__":
    path = Path(__file__).with_name("result.schema.json")
    path.write_text(json.dumps(schema(), indent=1) + "\n", encoding="utf-8")
