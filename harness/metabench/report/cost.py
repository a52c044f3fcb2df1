"""What a cell takes: operations, joules and money, per meta-step and until the target; never estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from metabench.report.columns import (
    AXIS_COLUMNS,
    COUNT_COLUMNS,
    Column,
    Section,
    number,
    standing_notes,
    text,
)
from metabench.report.labels import labels

if TYPE_CHECKING:
    from metabench.results.table import Table

MIB = 2**20
FLOPS = "flops_per_step"
DERIVED = ("flops to target", "money per step", "money of training", "money to target")
"""The figures that are made of others; those of energy carry the names of their meters."""


def cost(table: Table) -> Section:
    """Parameters, operations, memory, energy and money, means over seeds, as far as they were measured."""
    lines = []
    names: dict[str, None] = {}
    for line in table.cells:
        figures = _figures([table.rows[i] for i in line["positions"]], line, table.price_per_hour)
        if figures:
            lines.append(line | figures)
            names |= dict.fromkeys(figures)
    more = [name for name in names if name.startswith("cost ")]
    meters = sorted(name for name in names if name.startswith("energy "))
    derived = [name for name in DERIVED if any(line.get(name) is not None for line in lines)]
    columns = [
        *AXIS_COLUMNS,
        text("machine", "machine", quiet=True),
        Column("parameters", lambda r: f"{r['parameters']:,}", right=True, key="parameters"),
        text("path", "engine path"),
        *(number(name, name.removeprefix("cost ").replace("_", " ")) for name in more),
        *(number(name, f"{name.removeprefix('energy ')} (J)") for name in meters),
        *(number(name, name) for name in derived),
        number("training_seconds", "training s"),
        number("memory_host", "peak MiB", scale=1 / MIB),
        *COUNT_COLUMNS,
        Column("notes", labels, quiet=True),
    ]
    notes = [
        "Means over seeds. Operations as counted for one training step; energy where a meter exists; to the "
        "target only where every seed reached it."
    ]
    if table.price_per_hour is not None:
        notes.append(
            f"Money at {table.price_per_hour:g} per device-hour of training time; each rank is one device."
        )
    return Section("cost", "Cost", lines, columns, [*notes, *standing_notes(lines)])


def _figures(
    seeds: Sequence[Mapping[str, Any]], line: Mapping[str, Any], price: float | None
) -> dict[str, Any]:
    """The figures of one cell, means over its seeds; what was not measured in every seed is left out."""
    told: dict[str, Any] = _means("cost {}", [row["cost"] for row in seeds])
    reached = not line["ended"] and all(
        row["target_seconds"] is not None and row["target_step"] is not None for row in seeds
    )
    trained = [row["training_energy"] for row in seeds]
    if all(row["trained_steps"] for row in seeds):
        told |= _means("energy {} per step", [
            {meter: joules / row["trained_steps"] for meter, joules in row["training_energy"].items()}
            for row in seeds
        ])  # fmt: skip
    told |= _means("energy {} of training", trained)
    told |= _means("energy {} of the cell", [row["energy"] for row in seeds])
    if reached:
        told |= _means("energy {} to target", [row["target_energy"] for row in seeds])
        if f"cost {FLOPS}" in told:
            told["flops to target"] = told[f"cost {FLOPS}"] * fmean(row["target_step"] for row in seeds)
    if price is not None and line["step_seconds"] is not None:
        second = price * line["ranks"] / 3600
        told["money per step"] = second * line["step_seconds"]
        told["money of training"] = second * line["training_seconds"]
        if reached:
            told["money to target"] = second * fmean(row["target_seconds"] for row in seeds)
    return told


def _means(form: str, figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure that all of these have, by its name in this form."""
    return {
        form.format(name): fmean(each[name] for each in figures)
        for name in figures[0]
        if all(name in each for each in figures)
    }
