"""The largest task that fits into a stated memory, and the first that does not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metabench.records.cell import Status, task_text
from metabench.report.columns import METHOD_COLUMNS, Column, Section, number, text
from metabench.text import ABSENT

if TYPE_CHECKING:
    from metabench.results.table import Table

Row = Mapping[str, Any]
MIB = 2**20


def largest(table: Table) -> Section:
    """Per work without its ways and shots: memory limit, largest size that ran, first that did not.

    Cells belong here where their backend states a limit (`memory_gib`), or where one ran out of memory.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in table.rows:
        if row["status"] in (Status.OK, Status.OUT_OF_MEMORY):
            groups.setdefault((row["size_work"], row["machine"]), []).append(row)
    lines = [_line(rows) for rows in groups.values() if _is_series(rows)]
    columns = [
        *(column for column in METHOD_COLUMNS if column.header != "task"),
        text("backend_name", "backend", quiet=True),
        number("limit_gib", "limit GiB"),
        Column("largest that fits", lambda r: _size_text(r["fits"]), key="fits_images"),
        number("fits_bytes", "its peak MiB", scale=1 / MIB),
        Column("first that does not", lambda r: _size_text(r["fails"]), key="fails_images"),
        text("queries", "queries", quiet=True, right=True),
        text("tasks_per_step", "tasks/step", quiet=True, right=True),
        text("seeds", "seeds", quiet=True, right=True),
        text("machine", "machine", quiet=True),
    ]
    notes = [
        "Sizes in the order of a task's examples (ways × (shots + queries)), as far as they were run: what "
        "lies between the two is not known. A size fits where every seed of it ran."
    ]
    return Section("largest", "Largest that fits", lines, columns, notes)


def _is_series(rows: Sequence[Row]) -> bool:
    if len({(row["ways"], row["shots"]) for row in rows}) < 2:
        return False
    return _limit(rows[0]) is not None or any(row["status"] != Status.OK for row in rows)


def _limit(row: Row) -> float | None:
    told = json.loads(row["backend_settings"]).get("memory_gib")
    return told if isinstance(told, (int, float)) and not isinstance(told, bool) and told > 0 else None


def _line(rows: Sequence[Row]) -> dict[str, Any]:
    sizes: dict[tuple[int, int], list[Row]] = {}
    for row in sorted(rows, key=_images):
        sizes.setdefault((row["ways"], row["shots"]), []).append(row)
    failing = [each for each in sizes.values() if any(row["status"] != Status.OK for row in each)]
    fails = failing[0] if failing else None
    fitting = [
        each for each in sizes.values()
        if each not in failing and (fails is None or _images(each[0]) < _images(fails[0]))
    ]  # fmt: skip
    fits = fitting[-1] if fitting else None
    peaks = [row["memory_device"] or row["memory_host"] for row in fits or ()]
    first = rows[0]
    names = ("suite", "version", "dataset", "method", "network", "backend_name", "queries", "machine")
    return {name: first[name] for name in names} | {
        "limit_gib": _limit(first),
        "fits": _size(fits), "fits_images": _images(fits[0]) if fits else None,
        "fits_bytes": max((peak for peak in peaks if peak is not None), default=None),
        "fails": _size(fails), "fails_images": _images(fails[0]) if fails else None,
        "tasks_per_step": first["step_tasks"],
        "seeds": len({row["seed"] for row in rows}),
    }  # fmt: skip


def _images(row: Row) -> int:
    return int(row["ways"] * (row["shots"] + row["queries"]))


def _size(rows: Sequence[Row] | None) -> list[int] | None:
    return [rows[0]["ways"], rows[0]["shots"]] if rows else None


def _size_text(size: Sequence[int] | None) -> str:
    return ABSENT if size is None else task_text(size[0], size[1])
