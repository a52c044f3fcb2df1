"""The table of costs: measured operations and joules, money from a price, and nothing that is estimated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from helpers.reports import content_of, table_of
from helpers.results import made_cell, made_result
from metabench import Result
from metabench.records.cell import Status
from metabench.report.output import render


def metered(result: Result, joules: float, to_target: float | None = None) -> Result:
    assert result.training is not None
    target = {} if to_target is None else {"gpu": to_target}
    training = replace(result.training, energy={"gpu": joules}, target_energy=target)
    return replace(result, training=training, energy={"gpu": 2 * joules})


def seeds(**cell: Any) -> list[Result]:
    return [made_result(made_cell("a", seed, target=0.7, **cell), 0.75) for seed in range(2)]


def test_costs_are_means_over_seeds_per_step_and_to_the_target() -> None:
    first, second = seeds()
    results = [
        replace(metered(first, 400.0, 100.0), cost={"flops_per_step": 1e9}),
        replace(metered(second, 800.0, 300.0), cost={"flops_per_step": 3e9}),
    ]

    (line,) = table_of(results, "cost").records

    assert line["cost flops_per_step"] == pytest.approx(2e9)
    assert line["energy gpu per step"] == pytest.approx(600 / 400)
    assert line["energy gpu of training"] == pytest.approx(600)
    assert line["energy gpu to target"] == pytest.approx(200)
    assert line["flops to target"] == pytest.approx(2e9 * 100)  # each seed reached it at step 100
    assert "money per step" not in line


def test_a_price_gives_money_per_step_and_to_the_target_for_every_rank() -> None:
    table = content_of(seeds(backend="cpu-ranks", ranks=2), price_per_hour=3.6)

    (line,) = table_of(table, "cost").records

    (cell,) = table.summaries
    second = 2 * 3.6 / 3600
    assert line["money per step"] == pytest.approx(second * cell["step_seconds"])
    assert line["money of training"] == pytest.approx(second * cell["training_seconds"])
    assert line["money to target"] == pytest.approx(second * 100 * 0.02, rel=0.05)
    assert "Money at 3.6 per device-hour" in render([table_of(table, "cost")])


def test_without_a_meter_or_a_price_there_is_no_column_of_them() -> None:
    section = table_of(seeds(), "cost")

    headers = " ".join(column.header for column in section.columns)
    assert "flops per step" in headers
    assert "money" not in headers
    assert "(J)" not in headers


def test_a_target_that_one_seed_missed_has_no_cost() -> None:
    first, second = seeds()
    assert second.training is not None
    missed = replace(second, training=replace(second.training, target_step=None, target_seconds=None))
    failed = replace(second, status=Status.OUT_OF_MEMORY, scores=None, training=None)

    for other in (missed, failed):
        table = content_of([metered(first, 10.0, 5.0), other], price_per_hour=1.0)
        (line,) = table_of(table, "cost").records
        assert not [name for name in line if name.endswith("to target")]


def test_energy_that_only_some_seeds_measured_is_left_out() -> None:
    first, second = seeds()

    (line,) = table_of([metered(first, 10.0), second], "cost").records

    assert not [name for name in line if name.startswith("energy ")]
