"""Rows: the annotations of `Row` are its fields, and the kinds of value that are checked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.reports import content_of
from helpers.results import made_board, made_cell, made_result
from metabench.records.row import AVERAGES, FIELDS, SHARED, Row
from metabench.records.summary import Summary
from metabench.report.columns import number
from metabench.results.rows import row_of, steps_in_test


def test_a_row_has_just_the_fields_of_its_annotations() -> None:
    for result in made_board(test_tasks=20):
        assert set(row_of(result)[0]) == set(FIELDS)


def test_a_summary_has_just_the_fields_of_its_annotations() -> None:
    for summary in content_of(made_board(test_tasks=20)).summaries:
        assert set(summary) == set(Summary.__annotations__)


def test_a_summary_averages_what_is_annotated_as_an_average_and_takes_over_what_is_shared() -> None:
    results = [made_result(made_cell(seed=seed, test_tasks=20), wall_seconds=10.0 * seed) for seed in (1, 3)]
    content = content_of(results)

    (summary,) = content.summaries
    assert "wall_seconds" in AVERAGES
    assert summary["wall_seconds"] == pytest.approx(20)
    fields = dict(summary)
    assert {name: fields[name] for name in SHARED} == {name: dict(content.rows[0])[name] for name in SHARED}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"wall_seconds": "long"}, "wall_seconds is 'long'"), ({"parameters": 1.5}, "parameters is 1.5"),
     ({"parameters": True}, "parameters is True"), ({"notes": (1,)}, r"notes is \[1\]"),
     ({"cost": {"flops": "many"}}, "cost is")],
)  # fmt: skip
def test_a_value_of_another_kind_than_annotated_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        row_of(replace(made_result(made_cell(test_tasks=20)), **changes))  # type: ignore[arg-type]  # wrong on purpose


def test_a_column_of_a_misspelt_figure_fails_instead_of_showing_nothing() -> None:
    row: Row = row_of(made_result(made_cell(test_tasks=20)))[0]

    with pytest.raises(KeyError, match="wal_seconds"):
        number("wal_seconds", "wall s").show(row)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"steps": 1, "test_steps": 10}, 10),
        ({"steps": 5, "test_steps": None}, 5),
        ({"steps": 1, "test_steps": 0}, 0),
        ({"head_steps": 100}, 100),
        ({"train_ways": 60}, None),
    ],
)
def test_a_row_says_how_many_steps_adapt_to_a_test_task(
    settings: dict[str, int | None], steps: int | None
) -> None:
    assert steps_in_test(settings) == steps
