"""The table of the largest task that fits in a stated memory, and the first that does not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypedDict

from metabench.records.cell import Status
from metabench.records.protocol import task_text
from metabench.records.row import Row
from metabench.records.section import Column, Section
from metabench.report.columns import DATASET, METHOD, MIB, SUITE, number, text
from metabench.report.summary import Summaries
from metabench.text import ABSENT

NOTE = (
    "Sizes in the order of a task's examples (ways × (shots + queries)), as far as they were run: what "
    "lies between the two is not known. A size fits where every seed of it ran."
)


class CapacityLine(TypedDict):
    """What one work fits in memory; sizes are [ways, shots]; fits_images: examples of a task of that size."""

    suite: str
    version: int
    dataset: str
    method: str
    network: str
    backend_name: str
    queries: int
    machine: str
    limit_gib: float | None
    fits: list[int] | None
    fits_images: int | None
    fits_bytes: float | None
    fails: list[int] | None
    fails_images: int | None
    tasks_per_step: int
    seeds: int


def capacity(source: Summaries) -> Section[CapacityLine]:
    """Return per work without its ways and shots: memory limit, largest size that ran, first that did not.

    Results belong here where their backend states a limit (`memory_gib`), or where one ran out of memory.
    """
    series: dict[tuple[str, str], list[Row]] = {}
    for row in source.results.rows:
        if row["status"] in (Status.OK, Status.OUT_OF_MEMORY):
            series.setdefault((row["size_work"], row["machine"]), []).append(row)
    lines = [_line(rows) for rows in series.values() if _belongs(rows)]
    columns: list[Column[CapacityLine]] = [
        SUITE,
        DATASET,
        *METHOD,
        text("backend_name", "backend", quiet=True),
        number("limit_gib", "limit GiB"),
        Column("largest that fits", _fits, key="fits_images"),
        number("fits_bytes", "its peak MiB", scale=1 / MIB),
        Column("first that does not", _fails, key="fails_images"),
        text("queries", "queries", quiet=True, right=True),
        text("tasks_per_step", "tasks/step", quiet=True, right=True),
        text("seeds", "seeds", quiet=True, right=True),
        text("machine", "machine", quiet=True),
    ]
    return Section("capacity", "Largest task that fits in memory", lines, columns, [NOTE])


def _belongs(rows: Sequence[Row]) -> bool:
    """Return whether rows of one work are a series over sizes whose memory is limited."""
    if len({(row["ways"], row["shots"]) for row in rows}) < 2:
        return False
    return _limit(rows[0]) is not None or any(row["status"] != Status.OK for row in rows)


def _limit(row: Row) -> float | None:
    limit = json.loads(row["backend_settings"]).get("memory_gib")
    return limit if isinstance(limit, (int, float)) and not isinstance(limit, bool) and limit > 0 else None


def _line(rows: Sequence[Row]) -> CapacityLine:
    sizes: dict[tuple[int, int], list[Row]] = {}
    for row in sorted(rows, key=_images):
        sizes.setdefault((row["ways"], row["shots"]), []).append(row)
    failing = [seeds for seeds in sizes.values() if any(row["status"] != Status.OK for row in seeds)]
    fails = failing[0] if failing else None
    fitting = [
        seeds
        for seeds in sizes.values()
        if seeds not in failing and (fails is None or _images(seeds[0]) < _images(fails[0]))
    ]
    fits = fitting[-1] if fitting else None
    peaks = [row["memory_device"] or row["memory_host"] for row in fits or ()]
    first = rows[0]
    return {
        "suite": first["suite"],
        "version": first["version"],
        "dataset": first["dataset"],
        "method": first["method"],
        "network": first["network"],
        "backend_name": first["backend_name"],
        "queries": first["queries"],
        "machine": first["machine"],
        "limit_gib": _limit(first),
        "fits": _size(fits),
        "fits_images": _images(fits[0]) if fits else None,
        "fits_bytes": max((peak for peak in peaks if peak is not None), default=None),
        "fails": _size(fails),
        "fails_images": _images(fails[0]) if fails else None,
        "tasks_per_step": first["step_tasks"],
        "seeds": len({row["seed"] for row in rows}),
    }


def _images(row: Row) -> int:
    return row["ways"] * (row["shots"] + row["queries"])


def _size(rows: Sequence[Row] | None) -> list[int] | None:
    return [rows[0]["ways"], rows[0]["shots"]] if rows else None


def _fits(line: CapacityLine) -> str:
    return _size_text(line["fits"])


def _fails(line: CapacityLine) -> str:
    return _size_text(line["fails"])


def _size_text(size: Sequence[int] | None) -> str:
    return ABSENT if size is None else task_text(size[0], size[1])
