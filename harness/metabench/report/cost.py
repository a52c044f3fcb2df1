"""The table of costs: operations, energy and money, per meta-step and to the target; never estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from metabench.records.section import Column, Record, Section
from metabench.report.columns import AXIS_COLUMNS, COUNT_COLUMNS, MIB, number, standing_notes, text
from metabench.report.labels import labels
from metabench.report.summary import Summaries

FLOPS = "flops_per_step"
DERIVED = ("flops to target", "money per step", "money of training", "money to target")
"""The figures that are made of others; those of energy carry the names of their meters."""


def cost(source: Summaries) -> Section:
    """Return parameters, operations, memory, energy and money, means over seeds, as far as measured."""
    lines = []
    names: dict[str, None] = {}
    for summary in source.summaries:
        seeds = [source.results.rows[i] for i in summary["positions"]]
        figures = _figures(seeds, summary, source.price_per_hour)
        if figures:
            lines.append({**summary, **figures})
            names |= dict.fromkeys(figures)
    columns = [
        *AXIS_COLUMNS,
        text("machine", "machine", quiet=True),
        Column("parameters", lambda line: f"{line['parameters']:,}", right=True, key="parameters"),
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
    return Section("cost", "Cost", lines, columns, [*notes, *standing_notes(lines)])


def _figure_columns(names: Mapping[str, None]) -> list[Column]:
    """Return the columns of the figures that at least one line has."""
    counted = [name for name in names if name.startswith("cost ")]
    meters = sorted(name for name in names if name.startswith("energy "))
    return [
        *(number(name, name.removeprefix("cost ").replace("_", " ")) for name in counted),
        *(number(name, f"{name.removeprefix('energy ')} (J)") for name in meters),
        *(number(name, name) for name in DERIVED if name in names),
    ]


def _figures(seeds: Sequence[Record], summary: Record, price: float | None) -> dict[str, float]:
    """Return the figures of one summary, means over its seeds; what some seed lacks is left out."""
    reached = not summary["ended"] and all(
        row["target_seconds"] is not None and row["target_step"] is not None for row in seeds
    )
    figures = _means("cost {}", [row["cost"] for row in seeds]) | _energy(seeds, reached)
    if reached and f"cost {FLOPS}" in figures:
        figures["flops to target"] = figures[f"cost {FLOPS}"] * fmean(row["target_step"] for row in seeds)
    if price is not None and summary["step_seconds"] is not None:
        per_second = price * summary["ranks"] / 3600
        figures["money per step"] = per_second * summary["step_seconds"]
        figures["money of training"] = per_second * summary["training_seconds"]
        if reached:
            figures["money to target"] = per_second * fmean(row["target_seconds"] for row in seeds)
    return figures


def _energy(seeds: Sequence[Record], reached: bool) -> dict[str, float]:
    """Return the joules of every meter: per step, of training, of the cell, and to the target."""
    figures: dict[str, float] = {}
    if all(row["trained_steps"] for row in seeds):
        per_step = [
            {meter: joules / row["trained_steps"] for meter, joules in row["training_energy"].items()}
            for row in seeds
        ]
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
