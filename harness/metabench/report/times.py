"""The tables of times: where the time of each configuration went, and how long it took to its target."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TypedDict

from metabench import stats
from metabench.records.cell import Status
from metabench.records.row import MachineFields, Row, Shared
from metabench.records.section import Column, Section
from metabench.records.summary import Labels, Summary
from metabench.report.columns import (
    AXIS_COLUMNS,
    COUNT_COLUMNS,
    MIB,
    SPEED,
    mean_and_deviation,
    number,
    protocol,
    standing_notes,
    text,
)
from metabench.report.labels import labels
from metabench.report.summary import Summaries, pool, shared_fields
from metabench.text import ABSENT

SEVERAL_MACHINES = "Several machines: compare times only between rows of one machine."


def wall_time(source: Summaries) -> Section[Summary]:
    """Return where the time of every scored configuration went, mean over seeds, one machine a row."""
    columns: list[Column[Summary]] = [
        *AXIS_COLUMNS,
        text("machine", "machine", quiet=True),
        number("setup_seconds", "set-up s"),
        mean_and_deviation("training_seconds", "training_spread", "training s"),
        mean_and_deviation("step_seconds", "step_spread", "step ms", scale=1000),
        SPEED,
        number("adapt_seconds", "adaptation ms/task", scale=1000),
        number("evaluation_seconds", "evaluation s"),
        number("latency_p50", "latency p50 ms", scale=1000, quiet=True),
        number("latency_p95", "latency p95 ms", scale=1000, quiet=True),
        number("memory_host", "peak MiB", scale=1 / MIB),
        number("memory_device", "peak device MiB", scale=1 / MIB, quiet=True),
        *COUNT_COLUMNS,
        Column("notes", labels, quiet=True),
    ]
    notes = [
        "Means over seeds. ± is the standard deviation: of training over seeds, of a step over its blocks. "
        "Steps and tasks/s from steady blocks, without warm-up.",
        *_machine_notes(source.summaries),
        *standing_notes(source.summaries),
    ]
    return Section("wall-time", "Wall time", source.summaries, columns, notes)


def time_to_target(source: Summaries) -> Section[TargetLine]:
    """Return the seconds of training until validation reached the suite's target, the quickest first.

    MLPerf's rule: a run that failed or ran out of memory never reached it; one that was skipped was no run.
    """
    runs: dict[tuple[str, str, str], list[Row]] = {}
    for row in source.results.rows:
        if row["target"] is not None and Status(row["status"]).measured:
            runs.setdefault(pool(row), []).append(row)
    scored = {pool(summary): summary for summary in source.summaries}
    lines = sorted((_target_line(rows, scored.get(key)) for key, rows in runs.items()), key=_soonest)
    columns: list[Column[TargetLine]] = [
        *AXIS_COLUMNS,
        number("target", "target"),
        text("metric", "metric", quiet=True),
        number("seconds", "training s to target"),
        mean_and_deviation("seconds_mean", "seconds_spread", "seeds that reached it, s"),
        Column("reached", _reached, right=True, key="reached"),
        text("rule", "runs"),
        text("tasks", "test tasks", quiet=True, right=True),
        text("machine", "machine", quiet=True),
        Column("notes", _notes, quiet=True),
    ]
    notes = [
        "At least 3 seeds; from 5 on the fastest and the slowest are dropped; two misses give no time. A run "
        "that failed counts as one that never reached it. ± is the standard deviation over seeds.",
        *_machine_notes(lines),
    ]
    return Section("time-to-target", "Time to target", lines, columns, notes)


class TargetFields(TypedDict):
    """How soon runs reached the target; tasks: None where no run was scored."""

    seconds: float | None
    rule: str
    seeds: int
    reached: int
    seconds_mean: float | None
    seconds_spread: float | None
    tasks: int | None


class TargetLine(Shared, Labels, TargetFields):
    """A configuration on one machine, scored or not, and how soon it reached the target."""


UNSCORED: Labels = {
    "overlap_unknown": False, "code_label": "", "transductive": False, "transduction": "",
    "unstable": False, "budget_limited": False, "limited_reason": "", "kept": False, "resumed": 0,
    "unmeasured": 0, "warnings": [], "withdrawn": "", "reproduced": 0, "not_reproduced": 0,
}  # fmt: skip


def _target_line(rows: Sequence[Row], summary: Summary | None) -> TargetLine:
    """Return the line of one configuration on one machine; summary: that of its scored runs, if any."""
    time = stats.time_to_target([row["target_seconds"] for row in rows])
    reached = [row["target_seconds"] for row in rows if row["target_seconds"] is not None]
    return {
        **shared_fields(rows[0]),
        **(_labels(summary) if summary else UNSCORED),
        "seconds": time.seconds,
        "rule": time.note,
        "seeds": len(rows),
        "reached": len(reached),
        "seconds_mean": fmean(reached) if reached else None,
        "seconds_spread": stdev(reached) if len(reached) > 1 else None,
        "tasks": summary["tasks"] if summary else None,
    }


def _labels(summary: Summary) -> Labels:
    """Return the labels of the scored runs; the table counts unmeasured ones itself."""
    return {
        "overlap_unknown": summary["overlap_unknown"],
        "code_label": summary["code_label"],
        "transductive": summary["transductive"],
        "transduction": summary["transduction"],
        "unstable": summary["unstable"],
        "budget_limited": summary["budget_limited"],
        "limited_reason": summary["limited_reason"],
        "kept": summary["kept"],
        "resumed": summary["resumed"],
        "unmeasured": 0,
        "warnings": summary["warnings"],
        "withdrawn": summary["withdrawn"],
        "reproduced": summary["reproduced"],
        "not_reproduced": summary["not_reproduced"],
    }


def _soonest(line: TargetLine) -> tuple[object, ...]:
    never = line["seconds"] is None
    return (*protocol(line), line["target"], never, line["seconds"] or -line["reached"])


def _reached(line: TargetLine) -> str:
    return f"{line['reached']} of {line['seeds']}"


def _notes(line: TargetLine) -> str:
    return labels(line) if line["tasks"] else ABSENT


def _machine_notes(lines: Sequence[MachineFields]) -> list[str]:
    return [SEVERAL_MACHINES] if len({line["machine"] for line in lines}) > 1 else []
