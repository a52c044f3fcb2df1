"""The tables of the report: accuracy, wall time, time to target, cost and failures; and their plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from metabench import stats
from metabench.rows import task_text
from metabench.scaling import devices, strong, weak
from metabench.sections import (
    ABSENT,
    Column,
    Record,
    Section,
    number,
    score_text,
    significant,
    standing_notes,
    text,
)  # fmt: skip
from metabench.summary import in_series

if TYPE_CHECKING:
    from metabench.table import Table

MIB = 2**20
SEVERAL_MACHINES = "Several machines: compare times only between rows of one machine."
WIDTH = 110  # of notes on a terminal
PROTOCOL = ("suite", "version", "dataset", "ways", "shots", "metric")


def accuracy(table: Table) -> Section:
    """Scores with intervals and tiers, best first within data set and protocol; scaling cells left out."""
    cells = sorted(plain_cells(table), key=_best_first)
    columns = [
        *AXIS_COLUMNS,
        Column("score", lambda r: score_text(r["mean"], r["half_width"], r["unit"]), right=True),
        text("rank", "tier", right=True),
        text("metric", "metric", quiet=True),
        text("seeds", "seeds", quiet=True, right=True),
        text("tasks", "test tasks", quiet=True, right=True),
        text("steps", "steps", quiet=True, right=True),
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
        number("training_seconds", "training s"),
        number("tasks_per_second", "tasks/s"),
        number("adapt_seconds", "adaptation ms/task", scale=1000),
        number("evaluation_seconds", "evaluation s"),
        number("latency_p50", "latency p50 ms", scale=1000, quiet=True),
        number("latency_p95", "latency p95 ms", scale=1000, quiet=True),
        number("memory_host", "peak MiB", scale=1 / MIB),
        number("memory_device", "peak device MiB", scale=1 / MIB, quiet=True),
        text("seeds", "seeds", quiet=True, right=True),
        text("tasks", "test tasks", quiet=True, right=True),
        Column("notes", disturbances, quiet=True),
    ]
    notes = ["Means over seeds. Tasks/s from steady blocks of training steps, without warm-up."]
    if len({cell["machine"] for cell in table.cells}) > 1:
        notes.append(SEVERAL_MACHINES)
    return Section("wall-time", "Wall time", table.cells, columns, [*notes, *standing_notes(table.cells)])


def time_to_target(table: Table) -> Section:
    """Training seconds until validation reached the suite's target, over seeds by MLPerf's rule."""
    lines = []
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table.rows:
        if row["target"] is not None and row["status"] in ("ok", "diverged", "timed-out"):
            groups.setdefault((row["configuration"], row["machine"]), []).append(row)
    for each in groups.values():
        found = stats.time_to_target([row["target_seconds"] for row in each])
        lines.append(each[0] | {"seconds": found.seconds, "rule": found.note, "seeds": len(each)})
    columns = [
        *AXIS_COLUMNS,
        number("target", "target"),
        number("seconds", "training s to target"),
        text("machine", "machine", quiet=True),
        text("rule", "runs"),
    ]
    note = "At least 3 seeds; from 5 on the fastest and the slowest are dropped; two misses give no time."
    return Section("time-to-target", "Time to target", lines, columns, [note])


def cost(table: Table) -> Section:
    """What a cell takes: parameters, operations a step, memory and energy, as far as they were counted."""
    lines = []
    for line in table.cells:
        first = table.rows[line["positions"][0]]
        told = {f"cost {name}": value for name, value in first["cost"].items()}
        told |= {f"energy {name}": value for name, value in first["energy"].items()}
        if told:
            lines.append(line | told)
    more = sorted({name for line in lines for name in line if name.startswith(("cost ", "energy "))})
    columns = [
        *AXIS_COLUMNS,
        text("machine", "machine", quiet=True),
        Column("parameters", lambda r: f"{r['parameters']:,}", right=True),
        text("path", "engine path"),
        *(number(name, _cost_header(name)) for name in more),
        number("training_seconds", "training s"),
        number("memory_host", "peak MiB", scale=1 / MIB),
        text("seeds", "seeds", quiet=True, right=True),
        text("tasks", "test tasks", quiet=True, right=True),
    ]
    note = "Energy only where a meter exists; operations as counted for one training step."
    return Section("cost", "Cost", lines, columns, [note, *standing_notes(lines)])


def failures(table: Table) -> Section:
    """Every result that is not ok: its status, whether the suite expects it, its reason and last words."""
    lines = [row for row in table.rows if row["status"] != "ok"]
    columns = [
        text("suite", "suite", quiet=True),
        text("cell", "cell"),
        Column("status", lambda r: r["status"] + (" (expected)" if r["status"] in r["expected"] else "")),
        Column("reason", lambda r: _short(r["reason"]) or ABSENT),
        text("machine", "machine", quiet=True),
        Column("last line", lambda r: _short(r["log_tail"][-1]) if r["log_tail"] else ABSENT, quiet=True),
    ]
    return Section("failures", "Not measured", lines, columns)


def pivot(table: Table, lines: str, across: str) -> Section:
    """Scores with `lines` down and `across` along the top; several cells in one place are all told."""
    cells = plain_cells(table)
    heads = list(dict.fromkeys(cell[across] for cell in cells))
    made: dict[Any, dict[str, Any]] = {}
    for record in cells:
        told = made.setdefault(record[lines], {lines: record[lines]})
        score = score_text(record["mean"], record["half_width"], record["unit"])
        key = f"at {record[across]}"
        told[key] = f"{told[key]}; {score}" if key in told else score
    columns = [text(lines, lines), *(text(f"at {head}", f"{across} {head}", right=True) for head in heads)]
    return Section("pivot", f"Score by {lines} and {across}", list(made.values()), columns,
                   standing_notes(cells))  # fmt: skip


def plain_cells(table: Table) -> list[dict[str, Any]]:
    """The cells that are no part of a scaling or throughput series, or all where there are no others."""
    return [cell for cell in table.cells if not in_series(cell["group"])] or table.cells


def disturbances(record: Record) -> str:
    """What a reader must know of a cell's times, cut short: CSV and JSON have all of it."""
    remarks = record["remarks"]
    told = ["unstable times"] if record["unstable"] else []
    if remarks:
        more = f" (+{len(remarks) - 1} more)" if len(remarks) > 1 else ""
        told.append(_short(remarks[0], 60) + more)
    return "; ".join(told) or ABSENT


def flags(record: Record) -> str:
    """The labels of a cell, in words."""
    told = []
    if record["transductive"]:
        told.append("transductive" + (" (not claimed)" if record["transduction_unclaimed"] else ""))
    if record["budget_limited"]:
        told.append(f"budget-limited ({record['limited_why']})")
    if record["unstable"]:
        told.append("unstable times")
    if record["ended"]:
        told.append(f"{record['ended']} more not measured")
    return "; ".join(told) or ABSENT


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


def markdown_text(value: str) -> str:
    """Untrusted text for a Markdown table: shown as it is, never as markup, a link or an image."""
    flat = " ".join(printable(value).split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`*_[]|":
        flat = flat.replace(mark, f"\\{mark}")
    return flat.replace("://", ":&#47;&#47;").replace("@", "&#64;")


def printable(value: str) -> str:
    """Untrusted text without control characters: a result cannot move a terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in value)


def _best_first(cell: Record) -> tuple[Any, ...]:
    best = -cell["mean"] if cell["higher_is_better"] else cell["mean"]
    return (*(cell[name] for name in PROTOCOL), best)


def _accuracy_notes(cells: Sequence[Record]) -> list[str]:
    if not cells:
        return []
    several = any(cell["seeds"] > 1 for cell in cells)
    over = "crossed seeds and tasks (Satterthwaite)" if several else "the tasks of one seed"
    notes = [*standing_notes(cells), f"± is half a 95 % interval over {over}."]
    told = {tuple(c[n] for n in PROTOCOL): c for c in cells if c["detectable"] is not None}
    if told:
        least = ", ".join(
            f"{_points(c['detectable'], c['unit'])} ({c['dataset']} {task_text(c['ways'], c['shots'])})"
            for c in list(told.values())[:8]
        )
        notes.append(
            "Tier: 1 + the number of rows shown to be better on the same tasks (paired tests, Holm, 5 %). "
            f"Smallest difference that would have been found with 80 % chance: {least}."
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


def reference_text(record: Record) -> str:
    """The published counterparts of a cell, each with whether it agrees."""
    references = record["references"]
    if not references:
        return ABSENT
    told = []
    for one in references:
        said = (
            "agrees"
            if one.agrees(record["mean"])
            else f"differs by {(record['mean'] - one.accuracy) * 100:+.1f}"
        )
        told.append(f"{one}: {said}")
    return "; ".join(told)


def _points(difference: float, unit: str) -> str:
    return (
        f"{difference * 100:.2f} points" if unit == "share" else f"{significant(difference)} {unit}".strip()
    )


def _cost_header(name: str) -> str:
    kind, _, what = name.partition(" ")
    return f"{what} J" if kind == "energy" else what.replace("_", " ")


def _short(value: str, length: int = 100) -> str:
    flat = " ".join(value.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"


AXIS_COLUMNS: Sequence[Column] = (
    Column("suite", lambda r: f"{r['suite']} v{r['version']}", quiet=True),
    text("dataset", "data set", quiet=True),
    Column("task", lambda r: task_text(r["ways"], r["shots"]), quiet=True),
    text("method", "method"),
    text("network", "network", quiet=True),
    Column(
        "backend", lambda r: f"{r['backend']}" + (f" × {r['ranks']}" if r["ranks"] > 1 else ""), quiet=True
    ),
    text("train", "meta-train", quiet=True),
    text("plugin", "plugin", quiet=True),
)

SECTIONS: Sequence[Callable[[Table], Section]] = (
    accuracy, wall_time, strong, weak, devices, time_to_target, cost, failures,
)  # fmt: skip

__all__ = ["SECTIONS", "accuracy", "cost", "failures", "pivot", "plain", "significant", "wall_time"]
