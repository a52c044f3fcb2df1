"""The JSON document of a result file, read without trust: each key once, numbers only, of a bounded size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

LARGEST_BYTES = 256 * 2**20
"""A result file beyond this size is refused unread; a million test tasks take 20 MB."""


class DocumentError(ValueError):
    """The file holds no JSON object that could be a result; the text says why."""


def read_document(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises DocumentError where it cannot be read, is no regular file, is truncated or too large, names a key
    twice, or holds a number that JSON does not have.
    """
    try:
        if not path.is_file():
            raise DocumentError("no regular file")
        if path.stat().st_size > LARGEST_BYTES:
            raise DocumentError(f"larger than {LARGEST_BYTES // 2**20} MiB")
        document = json.loads(path.read_bytes(), object_pairs_hook=_unique, parse_constant=_refuse)
    except DocumentError:
        raise
    except RecursionError as error:
        raise DocumentError("its JSON is nested too deeply") from error
    except (OSError, ValueError) as error:
        raise DocumentError(f"truncated, or no JSON: {error}") from error
    if not isinstance(document, dict):
        raise DocumentError("no JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DocumentError(f"the key {twice!r} is there twice: readers would disagree on its value")
    return members


def _refuse(name: str) -> NoReturn:
    raise DocumentError(f"holds {name}, which is no JSON")
