"""A quick check of a result's JSON against its schema.

`fits_schema` answers yes or no, and checks an array of numbers at once; jsonschema, which is a hundred times
slower, explains what is wrong in those few files where something is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from metabench.records.schema import stored

Check = Callable[[Any], bool]

MOST_SHAPES = 64
"""At most so many combinations of types are remembered of each kind of object."""

EXPLAINED = 5
"""At most so many violations of a document are listed."""

_PLAIN: Mapping[str, frozenset[type]] = {
    "string": frozenset({str}),
    "boolean": frozenset({bool}),
    "null": frozenset({type(None)}),
    "number": frozenset({int, float}),
    "integer": frozenset({int}),
    "object": frozenset({dict}),
    "array": frozenset({list}),
}


def fits_schema(document: Any) -> bool:
    """Whether a JSON document is a result by the schema that is shipped with the package."""
    return _stored_check()(document)


def schema_violations(document: Any) -> list[str]:
    """What the schema has against a document, the first few violations in words; empty where it fits."""
    if fits_schema(document):
        return []
    import jsonschema  # takes a tenth of a second to import

    errors = jsonschema.Draft202012Validator(stored()).iter_errors(document)
    listed = [f"{error.json_path}: {error.message[:200]}" for error in errors][:EXPLAINED]
    return listed or ["the document does not fit the schema"]


@cache
def _stored_check() -> Check:
    return compile_schema(stored())


def compile_schema(schema: Mapping[str, Any]) -> Check:
    """A function that says whether a JSON value fits a schema made of the words that ours uses.

    Raises ValueError for a word of JSON Schema that it does not know.
    """
    unknown = set(schema) - _WORDS
    if unknown:
        raise ValueError(f"the schema has the words {', '.join(sorted(unknown))}, which are not known here")
    checks = list(_checks_of(schema))
    if len(checks) == 1:
        return checks[0]
    return lambda value: all(check(value) for check in checks)


_WORDS = frozenset({
    "$schema", "title", "description", "type", "enum", "const", "anyOf", "pattern", "properties", "required",
    "additionalProperties", "items", "prefixItems", "maxItems",
})  # fmt: skip


def _checks_of(schema: Mapping[str, Any]) -> Iterable[Check]:
    if "type" in schema and schema["type"] not in ("object", "array"):
        yield _type_check(schema["type"])
    if "const" in schema:
        yield _member_check([schema["const"]])
    if "enum" in schema:
        yield _member_check(schema["enum"])
    if "anyOf" in schema:
        yield _any_check(schema["anyOf"])
    if "pattern" in schema:
        pattern = re.compile(schema["pattern"])
        yield lambda value: not isinstance(value, str) or pattern.search(value) is not None
    if schema.get("type") == "object" or schema.keys() & {"properties", "required", "additionalProperties"}:
        yield _object_check(schema)
    if schema.get("type") == "array" or schema.keys() & {"items", "prefixItems", "maxItems"}:
        yield _array_check(schema)


def _exact_types(rule: Mapping[str, Any]) -> frozenset[type]:
    """The Python types whose values surely fit a rule that asks for types alone; empty for other rules."""
    if not rule.keys() <= {"type", "description"} or "type" not in rule:
        return frozenset()
    names = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
    return frozenset(kind for name in names for kind in _PLAIN[name])


def _is_of(value: Any, types: frozenset[type]) -> bool:
    return type(value) in types


def _type_check(names: str | list[str]) -> Check:
    types = _exact_types({"type": names})
    if "integer" not in names:
        return lambda value: type(value) in types
    return lambda value: type(value) in types or (type(value) is float and value.is_integer())


def _any_check(options: list[Mapping[str, Any]]) -> Check:
    """Return a check by the options: by those of the value's type, where all ask for one type each."""
    checks = [compile_schema(option) for option in options]
    names = [option.get("type") for option in options]
    if not all(isinstance(name, str) and name != "integer" for name in names):
        return lambda value: any(check(value) for check in checks)
    by_type: dict[type, list[Check]] = {}
    for name, check in zip(names, checks, strict=True):
        for kind in _PLAIN[str(name)]:
            by_type.setdefault(kind, []).append(check)
    return lambda value: any(check(value) for check in by_type.get(type(value), ()))


def _member_check(members: list[Any]) -> Check:
    # 2 and 2.0 are one number of JSON, while Python also takes True for 1
    return lambda value: any(
        value == member and isinstance(value, bool) == isinstance(member, bool) for member in members
    )


def _object_check(schema: Mapping[str, Any]) -> Check:
    rules = schema.get("properties", {})
    quick = {name: _exact_types(rule) for name, rule in rules.items()}
    named = {name: compile_schema(rule) for name, rule in rules.items()}
    required = frozenset(schema.get("required", ()))
    rest = schema.get("additionalProperties", True)
    other = compile_schema(rest) if isinstance(rest, Mapping) else lambda value: bool(rest)
    allows_any = rest is True or rest == {}

    asked = schema.get("type") == "object"
    fitting: set[tuple[Any, ...]] = set()  # names and types that fit whatever the values are

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return not asked
        shape = (*value, *map(type, value.values()))
        if shape in fitting:
            return True
        if not required <= value.keys():
            return False
        by_types = True
        for name, member in value.items():
            if name not in named:
                if not allows_any:
                    if not other(member):
                        return False
                    by_types = False
            elif type(member) not in quick[name]:
                if not named[name](member):
                    return False
                by_types = False
        if by_types and len(fitting) < MOST_SHAPES:
            fitting.add(shape)
        return True

    return check


def _array_check(schema: Mapping[str, Any]) -> Check:
    first = [compile_schema(rule) for rule in schema.get("prefixItems", ())]
    most = schema.get("maxItems")
    rule = schema.get("items", {})
    quick, slow = _exact_types(rule), compile_schema(rule)

    asked = schema.get("type") == "array"
    by_types = [_exact_types(rule) for rule in schema.get("prefixItems", ())]

    def check(value: Any) -> bool:
        if type(value) is not list:
            return not asked
        if most is not None and len(value) > most:
            return False
        if first:
            if len(value) <= len(first) and all(map(_is_of, value, by_types)):
                return True
        elif quick and quick.issuperset(map(type, value)):
            return True  # thousands of numbers at once
        for fits, member in zip(first, value, strict=False):
            if not fits(member):
                return False
        return all(map(slow, value[len(first) :]))

    return check
