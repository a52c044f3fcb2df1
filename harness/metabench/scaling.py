"""Scaling over ranks: speed-up of the same work, told only where the accuracies agree.

Strong scaling keeps the meta-batch: the results must be the same, so the parity gate is an equivalence
test over the same test tasks. Weak scaling keeps the tasks per rank, changes the meta-batch and so the
training, and tells throughput only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metabench import stats
from metabench.rows import task_text
from metabench.sections import ABSENT, Column, Section, number, score_text, standing_notes, text
from metabench.summary import crossed

if TYPE_CHECKING:
    from metabench.table import Table

PARITY_SHARE = 0.02
"""Margin within which two shares (accuracies) count as equal: the tolerance between reproductions."""

PARITY_RELATIVE = 0.1
"""The same for scores of another unit, as a part of the smaller one's size."""

PARITY_LEVEL = 0.05


def strong(table: Table) -> Section:
    """Speed-up, efficiency and share of communication over ranks, for every work run on several of them."""
    lines = []
    for series in _series(table, "work"):
        base = _baseline(series)
        for line in series:
            lines.append(line | _against(table, line, base))
    lines = [line for line in lines if "weak" not in str(line["group"])]
    columns = [
        *_axes(),
        number("step_ms", "step ms"),
        Column("speed-up", lambda r: _withheld(r, "speedup", "{:.2f} ×"), right=True),
        Column("efficiency", lambda r: _withheld(r, "efficiency", "{:.0%}"), right=True),
        Column("communication", _communication, right=True),
        Column("score", lambda r: score_text(r["mean"], r["half_width"], r["unit"]), right=True),
        text("parity", "parity"),
        Column("notes", lambda r: "unstable times" if r["unstable"] else ABSENT, quiet=True),
    ]
    notes = [
        "Speed-up = step time of 1 rank / step time of N ranks, same meta-batch and threads per rank; "
        "efficiency = speed-up / N. Told only where the scores agree over the same test tasks "
        f"(two one-sided tests, margin {PARITY_SHARE:.0%} for accuracies, {PARITY_RELATIVE:.0%} of the "
        "score for others).",
        "The ranks ran in processes of their own, one after the other: times minutes apart can differ.",
    ]
    return Section("scaling", "Strong scaling", lines, columns, [*notes, *standing_notes(lines)])


def weak(table: Table) -> Section:
    """Throughput over ranks where each rank has the same number of tasks."""
    lines = []
    for series in _series(table, "weak_work"):
        series = [line for line in series if "weak" in str(line["group"])]
        per_rank = {line["step_tasks"] / line["ranks"] for line in series}
        if len({line["ranks"] for line in series}) < 2 or len(per_rank) != 1:
            continue
        base = _baseline(series)
        for line in series:
            one = base["tasks_per_second"] if base is not None else None
            ratio = line["tasks_per_second"] / one if one and line["tasks_per_second"] else None
            lines.append(line | {"tasks_per_rank": next(iter(per_rank)), "ratio": ratio})
    columns = [
        *_axes(),
        number("tasks_per_rank", "tasks/rank", quiet=True),
        number("tasks_per_second", "tasks/s"),
        Column(
            "against 1 rank", lambda r: ABSENT if r["ratio"] is None else f"{r['ratio']:.2f} ×", right=True
        ),
        Column("communication", _communication, right=True),
        Column("notes", lambda r: "unstable times" if r["unstable"] else ABSENT, quiet=True),
    ]
    note = "Weak scaling changes the meta-batch and so the training: throughput only."
    return Section("weak-scaling", "Weak scaling", lines, columns, [note, *standing_notes(lines)])


def devices(table: Table) -> Section:
    """Speed-up of the same work by a change of device, each used by one rank of one machine."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in table.cells:
        if line["ranks"] == 1 and line["device"]:
            groups.setdefault((line["work"], line["machine"]), []).append(line)
    lines = []
    for series in groups.values():
        if len({line["device"] for line in series}) > 1:
            base = next((line for line in series if line["device"] == "cpu"), series[0])
            lines += [
                line | _against(table, line, base) for line in sorted(series, key=lambda one: one is not base)
            ]
    columns = [
        *_axes(),
        text("device", "device"),
        number("step_ms", "step ms"),
        Column("speed-up", lambda r: _withheld(r, "speedup", "{:.2f} ×"), right=True),
        Column("score", lambda r: score_text(r["mean"], r["half_width"], r["unit"]), right=True),
        text("parity", "parity"),
        Column("notes", lambda r: "unstable times" if r["unstable"] else ABSENT, quiet=True),
    ]
    note = "Told only where the scores agree over the same test tasks, as for strong scaling."
    return Section("devices", "Change of device", lines, columns, [note, *standing_notes(lines)])


def agree(table: Table, first: Sequence[int], second: Sequence[int]) -> bool | None:
    """Whether two cells score equally on the same tasks; None where they met different tasks."""
    a, b = crossed(table, first), crossed(table, second)
    here, there = table.rows[first[0]], table.rows[second[0]]
    if a is None or b is None or here["manifest"] != there["manifest"] or a.shape[1] != b.shape[1]:
        return None
    if a.shape == b.shape and np.array_equal(a, b):
        return True
    size = min(abs(a.mean()), abs(b.mean()))
    margin = PARITY_SHARE if here["unit"] == "share" else PARITY_RELATIVE * size
    return bool(stats.difference(a, b).p_equal(margin) <= PARITY_LEVEL)


def _series(table: Table, key: str) -> list[list[dict[str, Any]]]:
    """Cells of the same work, machine and threads per rank, over at least two rank counts."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in table.cells:
        groups.setdefault((line[key], line["machine"], line["threads"]), []).append(line)
    several = [each for each in groups.values() if len({line["ranks"] for line in each}) > 1]
    return [sorted(each, key=lambda line: line["ranks"]) for each in several]


def _baseline(series: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The cell of one rank that the others are measured against: of the same family of backends."""
    ones = [line for line in series if line["ranks"] == 1]
    families = {line["backend_name"] for line in series if line["ranks"] > 1}
    close = [
        line
        for line in ones
        if any(
            name == line["backend_name"] or name.startswith(f"{line['backend_name']}-") for name in families
        )
    ]
    return next(iter(close or ones), None)


def _against(table: Table, line: dict[str, Any], base: dict[str, Any] | None) -> dict[str, Any]:
    step = line["step_seconds"]
    told: dict[str, Any] = {
        "step_ms": None if step is None else step * 1000,
        "speedup": None, "efficiency": None, "parity": "no 1-rank result",
    }  # fmt: skip
    if base is None:
        return told
    if line is base:
        return told | {"speedup": 1.0, "efficiency": 1.0, "parity": "baseline"}
    equal = agree(table, line["positions"], base["positions"])
    told["parity"] = {True: "agrees", False: "not shown", None: "other tasks"}[equal]
    if equal and step and base["step_seconds"]:
        told["speedup"] = base["step_seconds"] / step
        told["efficiency"] = told["speedup"] / line["ranks"]
    return told


def _withheld(record: Any, key: str, form: str) -> str:
    return ABSENT if record[key] is None else form.format(record[key])


def _communication(record: Any) -> str:
    share = record["communication_share"]
    return ABSENT if share is None or record["ranks"] == 1 else f"{share:.0%}"


def _axes() -> Sequence[Column]:
    return (
        Column("suite", lambda r: f"{r['suite']} v{r['version']}", quiet=True),
        text("dataset", "data set", quiet=True),
        Column("task", lambda r: task_text(r["ways"], r["shots"]), quiet=True),
        text("method", "method"),
        text("network", "network", quiet=True),
        text("backend_name", "backend"),
        text("ranks", "ranks", right=True),
        text("threads", "threads/rank", quiet=True, right=True),
        text("step_tasks", "tasks/step", quiet=True, right=True),
        text("machine", "machine", quiet=True),
        text("seeds", "seeds", quiet=True, right=True),
        text("tasks", "test tasks", quiet=True, right=True),
    )
