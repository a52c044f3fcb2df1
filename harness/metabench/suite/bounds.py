"""The bounds of a request: how large a suite file may be, how deep, and how many cells it may ask for.

A request beyond a bound is refused at once, before anything is expanded.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metabench.errors import RequestError, SuiteError
from metabench.records.cell import Cell

LARGEST_BYTES = 2**20
"""The size of a suite file; the largest that comes with metabench has 5 thousand bytes."""
DEEPEST = 16
"""Levels of tables and lists in a suite file; the settings of a swept component have six."""
MOST_CELLS = 20_000
"""How many cells a suite may have, all seeds counted."""
LARGEST_INTEGER = 2**63
LONGEST_SECONDS = 10.0**9

_DEEP_KEY = re.compile(rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{DEEPEST}}}""")


def read_suite_file(path: Path) -> dict[str, Any]:
    """Return the table of a suite file; raises SuiteError where it is none, or beyond a bound."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise SuiteError([f"{path}: cannot be read: {error.strerror}"]) from error
    if len(data) > LARGEST_BYTES:
        raise SuiteError([f"{path}: a suite file must have at most {LARGEST_BYTES} bytes"])
    too_deep = SuiteError([f"{path}: must nest tables and lists at most {DEEPEST} levels deep"])
    try:
        text = data.decode("utf-8-sig")
        if _DEEP_KEY.search(text):  # parsing takes the square of the number of a key's parts
            raise too_deep
        document = tomllib.loads(text)
    except RecursionError:
        raise too_deep from None
    except ValueError as error:  # no TOML, no UTF-8, or an integer that Python refuses to read
        raise SuiteError([f"{path}: not a TOML file: {error}"]) from error
    _require_plain(path, document)
    return document


def require_few_cells(path: Path, document: Mapping[str, Any], seeds: Sequence[int] | None) -> None:
    """Raise SuiteError where a suite asks for too many cells; seeds: those that replace the file's own."""
    defaults, entries = document.get("defaults"), document.get("cells")
    default = _length(defaults.get("seeds")) if isinstance(defaults, Mapping) else 1
    tables = [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    count = 0
    for table in tables:
        own = _length(table["seeds"]) if "seeds" in table else default
        sweep = table.get("sweep")
        columns = map(_length, sweep.values()) if isinstance(sweep, Mapping) else ()
        count += math.prod(columns) * (own if seeds is None else len(seeds))
    if count > MOST_CELLS:
        raise SuiteError(
            [f"{path}: must ask for at most {MOST_CELLS} cells, seeds counted, asks for {count}"]
        )


def require_distinct_ids(path: Path, cells: Iterable[Cell]) -> None:
    """Raise SuiteError where two cells have one id, under which only one result could be stored."""
    by_id: dict[str, Cell] = {}
    for cell in cells:
        other = by_id.setdefault(cell.id, cell)
        if other.digest != cell.digest:
            raise SuiteError([
                f"{path}: two cells must not have one id, {cell.id} (their digests {other.digest} and "
                f"{cell.digest} begin alike); change any setting of one, such as evaluation.batch"
            ])  # fmt: skip


def require_seconds(name: str, seconds: float | None) -> None:
    """Raise RequestError unless this is a time limit: None, or a finite number of seconds above 0."""
    if seconds is not None and not 0 < seconds <= LONGEST_SECONDS:
        raise RequestError(
            f"{name} must be a number of seconds > 0, at most {LONGEST_SECONDS:g}, got {seconds}"
        )


def _require_plain(path: Path, document: Mapping[str, Any]) -> None:
    """Raise SuiteError for levels that are too deep and integers that no result can hold."""
    level: list[Any] = [document]
    for _ in range(DEEPEST):
        members = [member for value in level for member in _members(value)]
        if any(
            isinstance(member, int) and not -LARGEST_INTEGER <= member < LARGEST_INTEGER for member in members
        ):
            raise SuiteError([f"{path}: integers must fit 64 bits"])
        level = [member for member in members if isinstance(member, (dict, list))]
    if level:
        raise SuiteError([f"{path}: must nest tables and lists at most {DEEPEST} levels deep"])


def _members(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _length(values: Any) -> int:
    return len(values) if isinstance(values, list) else 1
