"""The table of costs: operations, energy and money, per meta-step and to the target; never estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from metabench.records.row import Row
from metabench.records.section import Column, Section
from metabench.records.summary import Summary
from metabench.report.columns import AXIS_COLUMNS, COUNT_COLUMNS, MIB, number, standing_notes, text
from metabench.report.labels import labels
from metabench.report.summary import Summaries

FLOPS = "flops_per_step"
DERIVED = ("flops to target", "money per step", "money of training", "money to target")
"""The figures that are made of others; those of energy carry the names of their meters."""


def cost(source: Summaries) -> Section[Any]:
    """Return parameters, operations, memory, energy and money, means over seeds, as far as measured."""
    figures = [_figures(source, summary) for summary in source.summaries]
    summaries = [summary for summary, costs in zip(source.summaries, figures, strict=True) if costs]
    lines = [{**summary, **costs} for summary, costs in zip(source.summaries, figures, strict=True) if costs]
    names = dict.fromkeys(name for costs in figures for name in costs)
    columns: list[Column[Any]] = [
        *AXIS_COLUMNS,
        text("machine", "machine", quiet=True),
        Column("parameters", _parameters, right=True, key="parameters"),
        text("path", "engine path"),
        *_figure_columns(names),
        number("training_seconds", "training s"),
        number("memory_host", "peak MiB", scale=1 / MIB),
        *COUNT_COLUMNS,
        Column("notes", labels, quiet=True),
    ]
    notes = [
        "Means over seeds. Operations as counted for one training step; energy where a meter exists; to the "
        "target only where every seed reached it."
    ]
    if source.price_per_hour is not None:
        notes.append(
            f"Money at {source.price_per_hour:g} per device-hour of training time; each rank is one device."
        )
    return Section("cost", "Cost", lines, columns, [*notes, *standing_notes(summaries)])


def _figure_columns(names: Mapping[str, None]) -> list[Column[Any]]:
    """Return the columns of the figures that at least one line has."""
    counted = [name for name in names if name.startswith("cost ")]
    meters = sorted(name for name in names if name.startswith("energy "))
    return [
        *(number(name, name.removeprefix("cost ").replace("_", " "), optional=True) for name in counted),
        *(number(name, f"{name.removeprefix('energy ')} (J)", optional=True) for name in meters),
        *(number(name, name, optional=True) for name in DERIVED if name in names),
    ]


def _figures(source: Summaries, summary: Summary) -> dict[str, float]:
    """Return the figures of one summary, means over its seeds; what some seed lacks is left out."""
    seeds = [source.results.rows[i] for i in summary["positions"]]
    steps = [row["target_step"] for row in seeds if row["target_step"] is not None]
    seconds = [row["target_seconds"] for row in seeds if row["target_seconds"] is not None]
    reached = not summary["unmeasured"] and len(steps) == len(seconds) == len(seeds)
    figures = _means("cost {}", [row["cost"] for row in seeds]) | _energy(seeds, reached)
    if reached and f"cost {FLOPS}" in figures:
        figures["flops to target"] = figures[f"cost {FLOPS}"] * fmean(steps)
    if source.price_per_hour is not None:
        per_second = source.price_per_hour * summary["ranks"] / 3600
        figures |= _money(per_second, summary, fmean(seconds) if reached else None)
    return figures


def _money(per_second: float, summary: Summary, target_seconds: float | None) -> dict[str, float]:
    """Return the money of a step, of training, and to the target where that was reached."""
    if summary["step_seconds"] is None or summary["training_seconds"] is None:
        return {}
    money = {
        "money per step": per_second * summary["step_seconds"],
        "money of training": per_second * summary["training_seconds"],
    }
    return money if target_seconds is None else money | {"money to target": per_second * target_seconds}


def _parameters(summary: Summary) -> str:
    return f"{summary['parameters']:,}"


def _energy(seeds: Sequence[Row], reached: bool) -> dict[str, float]:
    """Return the joules of every meter: per step, of training, of the cell, and to the target."""
    figures: dict[str, float] = {}
    per_step = [
        {meter: joules / row["trained_steps"] for meter, joules in row["training_energy"].items()}
        for row in seeds
        if row["trained_steps"]
    ]
    if len(per_step) == len(seeds):
        figures |= _means("energy {} per step", per_step)
    figures |= _means("energy {} of training", [row["training_energy"] for row in seeds])
    figures |= _means("energy {} of the cell", [row["energy"] for row in seeds])
    if reached:
        figures |= _means("energy {} to target", [row["target_energy"] for row in seeds])
    return figures


def _means(form: str, figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each figure that all of these have, by its name in this form."""
    return {
        form.format(name): fmean(values[name] for values in figures)
        for name in figures[0]
        if all(name in values for values in figures)
    }
