"""The tables of times: where the time of each configuration went, and how long it took to its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from metabench import stats
from metabench.records.cell import Status
from metabench.records.section import Column, Record, Section
from metabench.report.columns import (
    AXIS_COLUMNS,
    COUNT_COLUMNS,
    MIB,
    PROTOCOL,
    mean_and_deviation,
    number,
    speed,
    standing_notes,
    text,
)
from metabench.report.labels import labels
from metabench.report.summary import Summaries
from metabench.text import ABSENT

SEVERAL_MACHINES = "Several machines: compare times only between rows of one machine."


def wall_time(source: Summaries) -> Section:
    """Return where the time of every scored configuration went, mean over seeds, one machine a row."""
    columns = [
        *AXIS_COLUMNS,
        text("machine", "machine", quiet=True),
        number("setup_seconds", "set-up s"),
        mean_and_deviation("training_seconds", "training_spread", "training s"),
        mean_and_deviation("step_seconds", "step_spread", "step ms", scale=1000),
        speed(),
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


def time_to_target(source: Summaries) -> Section:
    """Return the seconds of training until validation reached the suite's target, the quickest first.

    MLPerf's rule: a run that failed or ran out of memory never reached it; one that was skipped was no run.
    """
    runs: dict[tuple[str, str], list[Record]] = {}
    for row in source.results.rows:
        if row["target"] is not None and Status(row["status"]).measured:
            runs.setdefault((row["configuration"], row["machine"]), []).append(row)
    scored = {(summary["configuration"], summary["machine"]): summary for summary in source.summaries}
    lines = sorted((_target_line(rows, scored.get(key)) for key, rows in runs.items()), key=_soonest)
    columns = [
        *AXIS_COLUMNS,
        number("target", "target"),
        text("metric", "metric", quiet=True),
        number("seconds", "training s to target"),
        mean_and_deviation("seconds_mean", "seconds_spread", "seeds that reached it, s"),
        Column("reached", lambda line: f"{line['reached']} of {line['seeds']}", right=True, key="reached"),
        text("rule", "runs"),
        text("tasks", "test tasks", quiet=True, right=True),
        text("machine", "machine", quiet=True),
        Column("notes", lambda line: labels(line) if line["tasks"] else ABSENT, quiet=True),
    ]
    notes = [
        "At least 3 seeds; from 5 on the fastest and the slowest are dropped; two misses give no time. A run "
        "that failed counts as one that never reached it. ± is the standard deviation over seeds.",
        *_machine_notes(lines),
    ]
    return Section("time-to-target", "Time to target", lines, columns, notes)


def _target_line(rows: Sequence[Record], summary: Record | None) -> Mapping[str, Any]:
    """Return the line of one configuration on one machine; summary: that of its scored runs, if any."""
    time = stats.time_to_target([row["target_seconds"] for row in rows])
    reached = [row["target_seconds"] for row in rows if row["target_seconds"] is not None]
    names = ("tasks", "transduction", "budget_limited", "limited_why", "unstable", "remarks")
    return {
        **rows[0],
        **{name: summary[name] if summary else None for name in names},
        "ended": 0,
        "seconds": time.seconds,
        "rule": time.note,
        "seeds": len(rows),
        "reached": len(reached),
        "seconds_mean": fmean(reached) if reached else None,
        "seconds_spread": stdev(reached) if len(reached) > 1 else None,
    }


def _soonest(line: Record) -> tuple[Any, ...]:
    never = line["seconds"] is None
    return (*(line[name] for name in PROTOCOL), line["target"], never, line["seconds"] or -line["reached"])


def _machine_notes(lines: Sequence[Record]) -> list[str]:
    return [SEVERAL_MACHINES] if len({line["machine"] for line in lines}) > 1 else []
