"""Damaged copies of JSON values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def spoiled(value: Any, wrong: Any, depth: int = 4) -> Iterator[Any]:
    """Copies of a JSON value in each of which one part is missing or replaced by the wrong one."""
    if depth and isinstance(value, dict):
        for key, part in value.items():
            yield {**value, key: wrong}
            yield {k: v for k, v in value.items() if k != key}
            for damaged in spoiled(part, wrong, depth - 1):
                yield {**value, key: damaged}
    if depth and isinstance(value, list) and value:
        yield [wrong, *value[1:]]
        for damaged in spoiled(value[0], wrong, depth - 1):
            yield [damaged, *value[1:]]
