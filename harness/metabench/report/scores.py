"""The tables of the report: accuracy, wall time, time to target and failures; and their plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from metabench import stats
from metabench.records.cell import Status, task_text
from metabench.report.capacity import largest
from metabench.report.columns import (
    AXIS_COLUMNS,
    COUNT_COLUMNS,
    STEPS,
    SUITE,
    Column,
    Record,
    Section,
    number,
    speed,
    spread,
    standing_notes,
    text,
)
from metabench.report.cost import cost
from metabench.report.labels import flags, labels, reference_text
from metabench.report.pivot import score
from metabench.report.scaling import devices, strong, weak
from metabench.report.summary import plain_cells
from metabench.text import ABSENT, brief, markdown_text, printable, significant

if TYPE_CHECKING:
    from metabench.results.table import Table

MIB = 2**20
SEVERAL_MACHINES = "Several machines: compare times only between rows of one machine."
WIDTH = 110  # of notes on a terminal
PROTOCOL = ("suite", "version", "dataset", "ways", "shots", "metric")


def accuracy(table: Table) -> Section:
    """Scores with intervals and tiers, best first within data set and protocol; scaling cells left out."""
    cells = sorted(plain_cells(table), key=best_first)
    columns = [
        *AXIS_COLUMNS,
        Column("score", score, right=True, key="mean"),
        text("rank", "tier", right=True),
        text("metric", "metric", quiet=True),
        *COUNT_COLUMNS,
        STEPS,
        text("machine", "machine", quiet=True),
        Column("published", reference_text, quiet=True),
        Column("notes", flags, quiet=True),
    ]
    return Section("accuracy", "Accuracy", cells, columns, _accuracy_notes(cells))


def wall_time(table: Table) -> Section:
    """Where the time of every scored cell went, mean over seeds; machines are never mixed in a row."""
    columns = [
        *AXIS_COLUMNS,
        text("machine", "machine", quiet=True),
        number("setup_seconds", "set-up s"),
        spread("training_seconds", "training_spread", "training s"),
        spread("step_seconds", "step_spread", "step ms", scale=1000),
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
        "Steps and tasks/s from steady blocks, without warm-up."
    ]
    if len({cell["machine"] for cell in table.cells}) > 1:
        notes.append(SEVERAL_MACHINES)
    return Section("wall-time", "Wall time", table.cells, columns, [*notes, *standing_notes(table.cells)])


def time_to_target(table: Table) -> Section:
    """Seconds of training until validation reached the suite's target, by MLPerf's rule; the quickest first.

    A run that failed or ran out of memory never reached it; one that was skipped was no run.
    """
    lines = []
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table.rows:
        if row["target"] is not None and Status(row["status"]).measured:
            groups.setdefault((row["configuration"], row["machine"]), []).append(row)
    cells = {(cell["configuration"], cell["machine"]): cell for cell in table.cells}
    for key, each in groups.items():
        found = stats.time_to_target([row["target_seconds"] for row in each])
        reached = [row["target_seconds"] for row in each if row["target_seconds"] is not None]
        lines.append(each[0] | _scored(cells.get(key)) | {
            "seconds": found.seconds, "rule": found.note, "seeds": len(each), "reached": len(reached),
            "seconds_mean": fmean(reached) if reached else None,
            "seconds_spread": stdev(reached) if len(reached) > 1 else None,
        })  # fmt: skip
    lines.sort(key=_soonest)
    columns = [
        *AXIS_COLUMNS,
        number("target", "target"),
        text("metric", "metric", quiet=True),
        number("seconds", "training s to target"),
        spread("seconds_mean", "seconds_spread", "seeds that reached it, s"),
        Column("reached", lambda r: f"{r['reached']} of {r['seeds']}", right=True, key="reached"),
        text("rule", "runs"),
        text("tasks", "test tasks", quiet=True, right=True),
        text("machine", "machine", quiet=True),
        Column("notes", lambda r: labels(r) if r["tasks"] else ABSENT, quiet=True),
    ]
    notes = [
        "At least 3 seeds; from 5 on the fastest and the slowest are dropped; two misses give no time. A run "
        "that failed counts as one that never reached it. ± is the standard deviation over seeds."
    ]
    if len({line["machine"] for line in lines}) > 1:
        notes.append(SEVERAL_MACHINES)
    return Section("time-to-target", "Time to target", lines, columns, notes)


def _soonest(line: Record) -> tuple[Any, ...]:
    never = line["seconds"] is None
    return (*(line[name] for name in PROTOCOL), line["target"], never, line["seconds"] or -line["reached"])


def _scored(cell: Record | None) -> dict[str, Any]:
    """What a line over runs takes from the scores of those that ended well."""
    names = ("tasks", "transduction", "budget_limited", "limited_why", "unstable", "remarks")
    return {name: cell[name] if cell else None for name in names} | {"ended": 0}


def failures(table: Table) -> Section:
    """Every result that is not ok: its status, whether the suite expects it, its reason and last words."""
    lines = [row for row in table.rows if row["status"] != Status.OK]
    columns = [
        SUITE,
        text("cell", "cell"),
        Column("status", lambda r: r["status"] + (" (expected)" if r["status"] in r["expected"] else ""),
               key="status"),
        Column("reason", lambda r: brief(r["reason"]) or ABSENT, key="reason"),
        text("machine", "machine", quiet=True),
        Column("last line", lambda r: brief(r["log_tail"][-1]) if r["log_tail"] else ABSENT, quiet=True),
    ]  # fmt: skip
    return Section("failures", "Not measured", lines, columns)


def plain(section: Section, style: str, most: int = 0) -> str:
    """A section as text by tabulate, `simple` for a terminal, `github` for Markdown; most: lines, 0: all."""
    left_out = max(len(section.records) - most, 0) if most else 0
    if left_out:
        section = replace(section, records=section.records[:most])
    columns, lines, notes = section.shown()
    if left_out:
        notes.insert(0, f"{left_out} more lines: narrow them with --only, or see all with --lines 0.")
    if style == "github":
        lines = [[markdown_text(cell) for cell in line] for line in lines]
        notes = [markdown_text(note) for note in notes]
    headers = [column.header for column in columns]
    align = ["right" if column.right else "left" for column in columns]
    body = tabulate(lines, headers, tablefmt=style, disable_numparse=True, colalign=align if lines else None)
    if style == "github":
        return "\n\n".join([f"## {section.title}", body, *notes])
    told = [textwrap.fill(note, WIDTH, initial_indent="  ", subsequent_indent="  ") for note in notes]
    return printable("\n".join([section.title, "", body, *told]))


def best_first(cell: Record) -> tuple[Any, ...]:
    """The key that orders cells by what they solve, and then by their scores."""
    best = -cell["mean"] if cell["higher_is_better"] else cell["mean"]
    return (*(cell[name] for name in PROTOCOL), best)


def _accuracy_notes(cells: Sequence[Record]) -> list[str]:
    if not cells:
        return []
    over = {
        True: "over crossed seeds and tasks (Satterthwaite)",
        False: "over the tasks, which says nothing of other seeds",
    }
    kinds = sorted({cell["seeds"] > 1 for cell in cells}, reverse=True)
    which = {True: "where there are several seeds, ", False: "where there is one, "} if len(kinds) > 1 else {}
    told_over = "; ".join(f"{which.get(kind, '')}{over[kind]}" for kind in kinds)
    notes = [*standing_notes(cells), f"± is half a 95 % interval {told_over}."]
    told = {tuple(c[n] for n in PROTOCOL): c for c in cells if c["detectable"] is not None}
    if told:
        least = ", ".join(
            f"{_points(c['detectable'], c['unit'])} ({c['dataset']} {task_text(c['ways'], c['shots'])})"
            for c in list(told.values())[:8]
        )
        notes.append(
            f"{stats.TIER_RULE}. Smallest difference that would have been found with 80 % chance: {least}."
        )
    shares = [(c["seed_share"], c["task_share"]) for c in cells if c["seed_share"] is not None]
    if shares:
        seed, task = (median(each) for each in zip(*shares, strict=True))
        notes.append(
            f"Variance of a score, median: {seed:.1%} seed, {task:.1%} task, rest {1 - seed - task:.1%}."
        )
    if any(cell["references"] for cell in cells):
        notes.append("Published: agrees within max(2 points, the interval reported) or not.")
    return notes


def _points(difference: float, unit: str) -> str:
    return (
        f"{difference * 100:.2f} points" if unit == "share" else f"{significant(difference)} {unit}".strip()
    )


SECTIONS: Sequence[Callable[[Table], Section]] = (
    accuracy, wall_time, strong, weak, devices, largest, time_to_target, cost, failures,
)  # fmt: skip

__all__ = ["AXIS_COLUMNS", "SECTIONS", "accuracy", "cost", "failures", "plain", "significant", "wall_time"]
