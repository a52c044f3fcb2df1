"""Scaling over ranks: speed-up of the same work, told only where the accuracies agree.

Strong scaling keeps the meta-batch: the results must be the same, so the parity gate is an equivalence
test over the same test tasks. Weak scaling keeps the tasks per rank, changes the meta-batch and so the
training, and tells throughput only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from metabench import stats
from metabench.device.host import WITH_GPUS
from metabench.records.section import Column, Section
from metabench.report.columns import (
    COUNT_COLUMNS,
    METHOD_COLUMNS,
    STEPS,
    mean_and_deviation,
    score,
    speed,
    standing_notes,
    text,
)
from metabench.report.labels import labels
from metabench.report.summary import Summaries, is_weak
from metabench.results.table import Results
from metabench.text import ABSENT

BLOCKS = (
    "± is the standard deviation over blocks of steps, the brackets a 95 % interval from these blocks: the "
    "cells ran one after the other, and runs minutes apart can differ by more."
)


def strong(source: Summaries) -> Section:
    """Speed-up, efficiency and share of communication over ranks, for every work run on several of them."""
    lines = []
    for series in _series(source, "work"):
        base = _baseline(series)
        for line in series:
            lines.append(line | _against(source.results, line, base))
    lines = [line for line in lines if not is_weak(line["group"])]
    columns = [
        *_axes(),
        mean_and_deviation("step_ms", "step_ms_spread", "step ms"),
        Column("speed-up", _speedup, right=True, key="speedup"),
        Column("efficiency", _efficiency, right=True, key="efficiency"),
        Column("communication", _communication, right=True, key="communication_share"),
        Column("score", score, right=True, key="mean"),
        text("parity", "parity"),
        Column("notes", _notes, quiet=True),
    ]
    notes = [
        "Speed-up = step time of 1 rank / step time of N ranks, same meta-batch and threads per rank; "
        "efficiency = speed-up / N. Told only where the scores agree over the same test tasks "
        f"(two one-sided tests, margin {stats.EQUAL_SHARE:.0%} for accuracies, {stats.EQUAL_RELATIVE:.0%} "
        "of the score for others), and where the ranks had cores or GPUs of their own.",
        BLOCKS,
    ]
    return Section("scaling", "Strong scaling", lines, columns, [*notes, *standing_notes(lines)])


def weak(source: Summaries) -> Section:
    """Throughput over ranks where each rank has the same number of tasks."""
    lines = []
    for series in _series(source, "weak_work"):
        series = [line for line in series if is_weak(line["group"])]
        per_rank = {line["step_tasks"] / line["ranks"] for line in series}
        if len({line["ranks"] for line in series}) < 2 or len(per_rank) != 1:
            continue
        base = _baseline(series)
        for line in series:
            one = base["tasks_per_second"] if base is not None else None
            fair = one and line["tasks_per_second"] and not line["crowded"]
            ratio = line["tasks_per_second"] / one if fair else None
            lines.append(line | _step(line) | {"tasks_per_rank": next(iter(per_rank)), "ratio": ratio})
    columns = [
        *_axes(),
        text("tasks_per_rank", "tasks/rank", quiet=True, right=True),
        mean_and_deviation("step_ms", "step_ms_spread", "step ms"),
        speed(),
        Column("against 1 rank", _ratio, right=True, key="ratio"),
        Column("communication", _communication, right=True, key="communication_share"),
        Column("notes", _notes, quiet=True),
    ]
    note = "Weak scaling changes the meta-batch and so the training: throughput only."
    return Section("weak-scaling", "Weak scaling", lines, columns, [note, *standing_notes(lines)])


def devices(source: Summaries) -> Section:
    """Speed-up of the same work by a change of device, each used by one rank of one machine."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in source.summaries:
        if line["ranks"] == 1 and line["device"]:
            host = line["machine"].partition(WITH_GPUS)[0]  # the name of a GPU's machine ends with the GPU's
            groups.setdefault((line["work"], host), []).append(line | _layout(line))
    lines = []
    for series in groups.values():
        if len({line["device"] for line in series}) > 1:
            base = next((line for line in series if line["device"] == "cpu"), series[0])
            lines += [
                line | _against(source.results, line, base)
                for line in sorted(series, key=lambda one: one is not base)
            ]
    columns = [
        *_axes(),
        text("device", "device"),
        mean_and_deviation("step_ms", "step_ms_spread", "step ms"),
        Column("speed-up", _speedup, right=True, key="speedup"),
        Column("score", score, right=True, key="mean"),
        text("parity", "parity"),
        Column("notes", _notes, quiet=True),
    ]
    note = "Speed-up only where the scores agree over the same test tasks, as for strong scaling."
    return Section("devices", "Change of device", lines, columns, [note, BLOCKS, *standing_notes(lines)])


def agree(table: Results, first: Sequence[int], second: Sequence[int]) -> bool | None:
    """Whether two cells score equally on the same tasks; None where they met different tasks."""
    a, b = table.score_matrix(first), table.score_matrix(second)
    here, there = table.rows[first[0]], table.rows[second[0]]
    if a is None or b is None or here["manifest"] != there["manifest"] or a.shape[1] != b.shape[1]:
        return None
    return stats.equal_scores(a, b, share=here["unit"] == "share")


def _series(source: Summaries, key: str) -> list[list[dict[str, Any]]]:
    """Cells of one work, machine, threads per rank and numerics, over at least two rank counts."""
    coarse: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in source.summaries:
        coarse.setdefault((line[key], line["machine"], line["threads"]), []).append(line)
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for where, lines in coarse.items():
        if len({line["ranks"] for line in lines}) > 1:
            for line in (line | _layout(line) for line in lines):
                groups.setdefault((*where, line["precision"], line["deterministic"]), []).append(line)
    several = [each for each in groups.values() if len({line["ranks"] for line in each}) > 1]
    return [sorted(each, key=lambda line: line["ranks"]) for each in several]


def _layout(line: Mapping[str, Any]) -> dict[str, Any]:
    """How a cell computed, and why its ranks were in each other's way (empty where they were not)."""
    told = json.loads(line["backend_settings"])
    nodes, threads, cores = told.get("nnodes"), line["threads"], line["cores"]
    here = line["ranks"] / nodes if isinstance(nodes, int) and nodes > 0 else line["ranks"]
    crowded = ""
    if told.get("share") is True and line["ranks"] > 1:
        crowded = "ranks share GPUs and talk over gloo"
    elif line["ranks"] > 1 and threads and cores and here * threads > cores:
        crowded = f"{line['ranks']} ranks on {cores} cores"
    return {
        "precision": str(told.get("precision", "")),
        "deterministic": bool(told.get("deterministic", False)),
        "crowded": crowded,
    }


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


def _step(line: Mapping[str, Any]) -> dict[str, Any]:
    step, around = line["step_seconds"], line["step_spread"]
    return {
        "step_ms": None if step is None else step * 1000,
        "step_ms_spread": None if around is None else around * 1000,
    }


def _against(table: Results, line: dict[str, Any], base: dict[str, Any] | None) -> dict[str, Any]:
    told: dict[str, Any] = _step(line) | {
        "speedup": None, "speedup_low": None, "speedup_high": None, "efficiency": None,
        "parity": "no 1-rank result",
    }  # fmt: skip
    if base is None:
        return told
    if line is base:
        return told | {"speedup": 1.0, "efficiency": 1.0, "parity": "baseline"}
    equal = agree(table, line["positions"], base["positions"])
    told["parity"] = {True: "agrees", False: "not shown", None: "other tasks"}[equal]
    if equal and not line["crowded"] and line["step_seconds"] and base["step_seconds"]:
        told["speedup"], told["speedup_low"], told["speedup_high"] = _time_ratio(base, line)
        told["efficiency"] = told["speedup"] / line["ranks"]
    return told


def _time_ratio(
    line: Mapping[str, Any], other: Mapping[str, Any]
) -> tuple[float, float | None, float | None]:
    """Step time of `line` over that of `other` with its 95 % interval, from the spread of their blocks."""
    return stats.welch_ratio(
        line["step_seconds"],
        other["step_seconds"],
        (line["step_spread"], other["step_spread"]),
        (line["blocks"], other["blocks"]),
    )


def _speedup(record: Any) -> str:
    if record["speedup"] is None:
        return ABSENT
    told = f"{record['speedup']:.2f} ×"
    if record["speedup_low"] is None:
        return told
    return f"{told} ({record['speedup_low']:.2f}–{record['speedup_high']:.2f})"


def _efficiency(record: Any) -> str:
    return ABSENT if record["efficiency"] is None else f"{record['efficiency']:.0%}"


def _ratio(record: Any) -> str:
    return ABSENT if record["ratio"] is None else f"{record['ratio']:.2f} ×"


def _communication(record: Any) -> str:
    share = record["communication_share"]
    return ABSENT if share is None or record["ranks"] == 1 else f"{share:.0%}"


def _notes(record: Any) -> str:
    crowded = f"{record['crowded']}: no speed-up" if record["crowded"] else ""
    return "; ".join(part for part in (crowded, labels(record)) if part not in ("", ABSENT)) or ABSENT


def _axes() -> Sequence[Column]:
    return (
        *METHOD_COLUMNS,
        text("backend_name", "backend"),
        text("ranks", "ranks", right=True),
        text("threads", "threads/rank", quiet=True, right=True),
        text("precision", "precision", quiet=True),
        text("step_tasks", "tasks/step", quiet=True, right=True),
        STEPS,
        text("machine", "machine", quiet=True),
        *COUNT_COLUMNS,
    )
