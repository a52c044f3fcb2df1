"""The tables of scaling: speed-up of the same work over ranks or by a change of device, where scores agree.

Strong scaling keeps the meta-batch: the results must be the same, so the parity gate is an equivalence
test over the same test tasks. Weak scaling keeps the tasks per rank, changes the meta-batch and so the
training, and shows throughput only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TypedDict

from metabench import stats
from metabench.device.host import WITH_GPUS
from metabench.records.section import Column, Section
from metabench.records.summary import Summary
from metabench.report.columns import (
    COUNT_COLUMNS,
    METHOD_COLUMNS,
    SPEED,
    STEPS,
    mean_and_deviation,
    score,
    standing_notes,
    text,
)
from metabench.report.labels import labels
from metabench.report.summary import Summaries
from metabench.results.table import Results
from metabench.text import ABSENT

BLOCKS = (
    "± is the standard deviation over blocks of steps, the brackets a 95 % interval from these blocks: the "
    "cells ran one after the other, and runs minutes apart can differ by more."
)


class Layout(TypedDict):
    """How ranks computed; crowded: why they were in each other's way, empty where they were not."""

    precision: str
    deterministic: bool
    crowded: str


class Gain(TypedDict):
    """Speed-up against a baseline with its interval; parity: whether the scores agree."""

    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    efficiency: float | None
    parity: str


class PlacedSummary(Summary, Layout):
    """A summary and how its ranks computed."""


class ScalingLine(PlacedSummary, Gain):
    """A summary of a series against the baseline of that series."""


class WeakLine(PlacedSummary):
    """A summary of a weak series; ratio: of its throughput and that of one rank."""

    tasks_per_rank: float
    ratio: float | None


def strong(source: Summaries) -> Section[ScalingLine]:
    """Return speed-up, efficiency and share of communication of every work run on several rank counts."""
    lines = [
        _against(source.results, line, base)
        for series in _series(source.summaries, lambda summary: summary["work"])
        for base in (_baseline(series),)
        for line in series
        if line["series"] != "weak-scaling"
    ]
    columns: list[Column[ScalingLine]] = [
        *_axes(),
        mean_and_deviation("step_seconds", "step_spread", "step ms", scale=1000),
        Column("speed-up", _speedup, right=True, key="speedup"),
        Column("efficiency", _efficiency, right=True, key="efficiency"),
        Column("communication", _communication, right=True, key="communication_share"),
        Column("score", score, right=True, key="mean"),
        text("parity", "parity"),
        Column("notes", _notes, quiet=True),
    ]
    notes = [
        "Speed-up = step time of 1 rank / step time of N ranks, same meta-batch and threads per rank; "
        "efficiency = speed-up / N. Shown only where the scores agree over the same test tasks "
        f"(two one-sided tests, margin {stats.EQUAL_SHARE:.0%} for accuracies, {stats.EQUAL_RELATIVE:.0%} "
        "of the score for others), and where the ranks had cores or GPUs of their own.",
        BLOCKS,
    ]
    return Section("scaling", "Strong scaling", lines, columns, [*notes, *standing_notes(lines)])


def weak(source: Summaries) -> Section[WeakLine]:
    """Return throughput over ranks where each rank has the same number of tasks."""
    members = [summary for summary in source.summaries if summary["series"] == "weak-scaling"]
    lines = [
        line
        for series in _series(members, lambda summary: summary["weak_work"])
        for line in _weak_lines(series)
    ]
    columns: list[Column[WeakLine]] = [
        *_axes(),
        text("tasks_per_rank", "tasks/rank", quiet=True, right=True),
        mean_and_deviation("step_seconds", "step_spread", "step ms", scale=1000),
        SPEED,
        Column("against 1 rank", _ratio, right=True, key="ratio"),
        Column("communication", _communication, right=True, key="communication_share"),
        Column("notes", _notes, quiet=True),
    ]
    note = "Weak scaling changes the meta-batch and so the training: throughput only."
    return Section("weak-scaling", "Weak scaling", lines, columns, [note, *standing_notes(lines)])


def devices(source: Summaries) -> Section[ScalingLine]:
    """Return the speed-up of the same work by a change of device, each used by one rank of one machine."""
    groups: dict[tuple[str, str], list[PlacedSummary]] = {}
    for summary in source.summaries:
        if summary["ranks"] == 1 and summary["device"]:
            host = summary["machine"].partition(WITH_GPUS)[0]  # a machine's name ends with that of its GPU
            groups.setdefault((summary["work"], host), []).append(_placed(summary))
    lines = []
    for series in groups.values():
        if len({line["device"] for line in series}) > 1:
            base = next((line for line in series if line["device"] == "cpu"), series[0])
            others = [line for line in series if line is not base]
            lines += [_against(source.results, line, base) for line in (base, *others)]
    columns: list[Column[ScalingLine]] = [
        *_axes(),
        text("device", "device"),
        mean_and_deviation("step_seconds", "step_spread", "step ms", scale=1000),
        Column("speed-up", _speedup, right=True, key="speedup"),
        Column("score", score, right=True, key="mean"),
        text("parity", "parity"),
        Column("notes", _notes, quiet=True),
    ]
    note = "Speed-up only where the scores agree over the same test tasks, as for strong scaling."
    return Section("devices", "Change of device", lines, columns, [note, BLOCKS, *standing_notes(lines)])


def _series(summaries: Sequence[Summary], work: Callable[[Summary], str]) -> list[list[PlacedSummary]]:
    """Return summaries of one work, machine, threads per rank and numerics, over at least two rank counts."""
    by_work: dict[tuple[object, ...], list[Summary]] = {}
    for summary in summaries:
        by_work.setdefault((work(summary), summary["machine"], summary["threads"]), []).append(summary)
    series: dict[tuple[object, ...], list[PlacedSummary]] = {}
    for key, members in by_work.items():
        if len({summary["ranks"] for summary in members}) > 1:
            for line in map(_placed, members):
                series.setdefault((*key, line["precision"], line["deterministic"]), []).append(line)
    several = [lines for lines in series.values() if len({line["ranks"] for line in lines}) > 1]
    return [sorted(lines, key=lambda line: line["ranks"]) for lines in several]


def _placed(summary: Summary) -> PlacedSummary:
    """Return the summary with how its ranks computed, as its backend's settings state it."""
    settings = json.loads(summary["backend_settings"])
    return {
        **summary,
        "precision": str(settings.get("precision", "")),
        "deterministic": bool(settings.get("deterministic", False)),
        "crowded": _crowded(summary, settings.get("share") is True),
    }


def _crowded(summary: Summary, share: bool) -> str:
    ranks, threads, cores = summary["ranks"], summary["threads"], summary["cores"]
    if share and ranks > 1:
        return "ranks share GPUs and talk over gloo"
    if ranks > 1 and threads and cores and ranks * threads > cores:
        return f"{ranks} ranks on {cores} cores"
    return ""


def _baseline(series: Sequence[PlacedSummary]) -> PlacedSummary | None:
    """Return the summary of one rank that the others are measured against: of their family of backends."""
    single = [line for line in series if line["ranks"] == 1]
    families = {line["backend_name"] for line in series if line["ranks"] > 1}
    related = [
        line
        for line in single
        if any(f"{family}-".startswith(f"{line['backend_name']}-") for family in families)
    ]
    return next(iter(related or single), None)


def _against(results: Results, line: PlacedSummary, base: PlacedSummary | None) -> ScalingLine:
    """Return the line with its speed-up, where it can be fairly stated."""
    gain: Gain = {
        "speedup": None, "speedup_low": None, "speedup_high": None, "efficiency": None,
        "parity": "no 1-rank result",
    }  # fmt: skip
    if base is None:
        return {**line, **gain}
    if line is base:
        return {**line, **gain, "speedup": 1.0, "efficiency": 1.0, "parity": "baseline"}
    equal = results.score_equally(line["positions"], base["positions"])
    gain["parity"] = {True: "agrees", False: "not shown", None: "other tasks"}[equal]
    step, base_step = line["step_seconds"], base["step_seconds"]
    if equal and not line["crowded"] and step and base_step:
        spreads, blocks = (base["step_spread"], line["step_spread"]), (base["blocks"], line["blocks"])
        ratio, gain["speedup_low"], gain["speedup_high"] = stats.welch_ratio(base_step, step, spreads, blocks)
        gain["speedup"], gain["efficiency"] = ratio, ratio / line["ranks"]
    return {**line, **gain}


def _weak_lines(series: Sequence[PlacedSummary]) -> list[WeakLine]:
    """Return the lines of a series, none where its ranks have different numbers of tasks."""
    per_rank = {line["step_tasks"] / line["ranks"] for line in series}
    if len(per_rank) != 1:
        return []
    (tasks,) = per_rank
    base = _baseline(series)
    base_speed = base["tasks_per_second"] if base else None
    lines: list[WeakLine] = []
    for line in series:
        speed = line["tasks_per_second"]
        ratio = speed / base_speed if base_speed and speed and not line["crowded"] else None
        lines.append({**line, "tasks_per_rank": tasks, "ratio": ratio})
    return lines


def _speedup(line: ScalingLine) -> str:
    if line["speedup"] is None:
        return ABSENT
    shown = f"{line['speedup']:.2f} ×"
    if line["speedup_low"] is None:
        return shown
    return f"{shown} ({line['speedup_low']:.2f}–{line['speedup_high']:.2f})"


def _efficiency(line: ScalingLine) -> str:
    return ABSENT if line["efficiency"] is None else f"{line['efficiency']:.0%}"


def _ratio(line: WeakLine) -> str:
    return ABSENT if line["ratio"] is None else f"{line['ratio']:.2f} ×"


def _communication(line: Summary) -> str:
    share = line["communication_share"]
    return ABSENT if share is None or line["ranks"] == 1 else f"{share:.0%}"


def _notes(line: PlacedSummary) -> str:
    crowded = f"{line['crowded']}: no speed-up" if line["crowded"] else ""
    return "; ".join(part for part in (crowded, labels(line)) if part not in ("", ABSENT)) or ABSENT


def _axes() -> Sequence[Column[Summary]]:
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
