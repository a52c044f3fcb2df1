"""The JSON document of a file that anybody may have written: bounded in size, depth, numbers and text."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

LARGEST_BYTES = 256 * 2**20
"""A file beyond this size is refused unread; a million test tasks take 20 MB."""

DEEPEST = 32
"""Levels of nesting; a result has six, and an environment or a setting may have some of its own."""

LONGEST_TEXT = 2**20
"""Characters of one text."""

LARGEST_INTEGER = 2**63
_INTEGER_DIGITS = 20

_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)

_KINDS: Mapping[int, str] = {
    stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link",
}  # fmt: skip


class DocumentError(ValueError):
    """The file holds no JSON object that could be read; the text says why."""


def read_document(path: Path, largest_bytes: int = LARGEST_BYTES) -> dict[str, Any]:
    """Return the JSON object in a file; never waits for a FIFO or a device.

    Raises DocumentError where the file cannot be read, is no regular file, is truncated or beyond a bound,
    names a key twice, or holds a number or a text that JSON does not have.
    """
    data = read_bytes(path, largest_bytes)
    if _too_deep(data):
        raise DocumentError(f"nested deeper than {DEEPEST} levels")
    try:
        document = json.loads(
            data.decode(), object_pairs_hook=_unique, parse_int=_integer, parse_constant=_refuse
        )
    except DocumentError:
        raise
    except UnicodeDecodeError as error:
        raise DocumentError(f"no UTF-8: {error.reason} at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"truncated, or no JSON: {error}") from error
    if not isinstance(document, dict):
        raise DocumentError("no JSON object")
    if len(data) > LONGEST_TEXT or b"\\ud" in data or b"\\uD" in data:
        _check_texts(document)
    return document


def read_bytes(path: Path, largest_bytes: int) -> bytes:
    """Return the bytes of a regular file; raises DocumentError where there is none, or it is too large."""
    try:
        _require_regular(os.stat(path).st_mode)  # before it is opened, which some devices notice
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(descriptor)
            _require_regular(status.st_mode)
            data = _read(descriptor, min(status.st_size, largest_bytes) + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror or error}") from error
    if len(data) > largest_bytes:
        raise DocumentError(f"larger than {largest_bytes:,} bytes")
    return data


def _read(descriptor: int, most: int) -> bytes:
    """Return the bytes of an open file, at most so many, which its size says."""
    data = os.read(descriptor, most)
    if len(data) == most or not data:
        return data
    parts = [data]  # a call may give fewer, and gives none at the end
    while data := os.read(descriptor, most - sum(map(len, parts))):
        parts.append(data)
    return b"".join(parts)


def kind_of(mode: int) -> str:
    """Return what a file is called that is no regular one, by the mode of its status."""
    return _KINDS.get(stat.S_IFMT(mode), "no regular file")


def _require_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise DocumentError(f"{kind_of(mode)}, not a regular file")


def _too_deep(data: bytes) -> bool:
    """Return whether brackets nest beyond the bound; a few replacements decide it for most documents."""
    brackets = data.translate(None, _NO_BRACKETS)
    for _ in range(DEEPEST):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    depth = 0  # it is deep or truncated, or has brackets in its texts
    for bracket in _STRING.sub(b"", data).translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEEPEST:
            return True
    return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DocumentError(f"the key {twice!r:.80} is there twice: readers would disagree on its value")
    return members


def _integer(text: str) -> int:
    if len(text) <= _INTEGER_DIGITS:
        value = int(text)
        if -LARGEST_INTEGER <= value < LARGEST_INTEGER:
            return value
    raise DocumentError(f"holds an integer of {len(text)} digits, beyond 64 bits")


def _refuse(name: str) -> NoReturn:
    raise DocumentError(f"holds {name}, which is no JSON")


def _check_texts(value: Any) -> None:
    """Raise DocumentError for a text that is too long, or that no UTF-8 file can hold (a lone surrogate)."""
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise DocumentError(f"holds a text of {len(value)} characters, at most {LONGEST_TEXT}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DocumentError("holds half of a surrogate pair, which is no character") from error
    elif isinstance(value, dict):
        for name, member in value.items():
            _check_texts(name)
            _check_texts(member)
    elif isinstance(value, list):
        for member in value:
            if not isinstance(member, (float, int)):
                _check_texts(member)
