"""Protocols as a suite writes them: `ways = [5, 20]` is a range, both ends included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from metabench.records.protocol import SHAPE, Protocol, VariedProtocol


def protocol_record(given: Any) -> tuple[type[Protocol], Any]:
    """Return the record that a table is of and its fields, with each range as its two ends.

    What is no range is left as it is, for the checks of the record to name.
    """
    if not isinstance(given, Mapping) or not ("sampling" in given or any(map(_is_range, given.values()))):
        return Protocol, given
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if name not in SHAPE:
            fields[name] = value
            continue
        fields[f"least_{name}"], fields[name] = value if _is_range(value) else (value, value)
    return VariedProtocol, fields


def range_mistakes(given: Any) -> Iterator[tuple[str, Any]]:
    """Yield the key and value of each range whose first number is greater than its second."""
    for name, value in given.items() if isinstance(given, Mapping) else ():
        if _is_range(value) and value[0] > value[1]:
            yield name, value


def as_written(protocol: Protocol) -> dict[str, Any]:
    """Return a protocol as the table of a suite, so that keys of another can replace its own."""
    if not isinstance(protocol, VariedProtocol):
        return {name: getattr(protocol, name) for name in SHAPE}
    ranges = {name: [getattr(protocol, f"least_{name}"), getattr(protocol, name)] for name in SHAPE}
    return {**ranges, "sampling": protocol.sampling}


def has_ranges_of_ways(protocol: Protocol) -> bool:
    """Return whether tasks of a protocol have different ways."""
    return isinstance(protocol, VariedProtocol) and protocol.least_ways < protocol.ways


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(end) is int for end in value)
