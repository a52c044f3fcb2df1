"""The largest task that fits into a stated memory."""

from __future__ import annotations

from dataclasses import replace

from helpers.reports import table_of
from helpers.results import made_cell, made_result, sized


def test_the_largest_size_and_the_first_that_fails_stand_beside_the_limit() -> None:
    results = [sized(shots, fits=shots < 10) for shots in (20, 1, 10, 5)]

    section = table_of(results, "capacity")

    columns, (line,), _ = section.shown()
    values = dict(zip((column.header for column in columns), line, strict=True))
    assert values["limit GiB"] == "2.00"
    assert values["largest that fits"] == "10-way 5-shot"
    assert values["its peak MiB"] == "500"
    assert values["first that does not"] == "10-way 10-shot"


def test_a_size_fits_only_where_every_seed_of_it_ran() -> None:
    results = [sized(1, True), sized(5, True), sized(5, False, seed=1), sized(10, True)]

    (line,) = table_of(results, "capacity").records

    assert (line["fits"], line["fails"]) == ([10, 1], [10, 5])


def test_sizes_without_a_failure_say_what_fits() -> None:
    (line,) = table_of([sized(1, True), sized(5, True)], "capacity").records

    assert (line["fits"], line["fails"]) == ([10, 5], None)


def test_other_limits_and_machines_are_other_lines() -> None:
    results = [sized(s, True, limit=limit) for s in (1, 5) for limit in (1.0, 2.0)]
    elsewhere = [
        replace(result, environment={**result.environment, "machine": "other"}) for result in results
    ]

    assert len(table_of([*results, *elsewhere], "capacity").records) == 4


def test_cells_without_a_limit_that_all_fit_are_no_series_of_sizes() -> None:
    assert not table_of([made_result(made_cell(shots=s, test_tasks=20)) for s in (1, 5)], "capacity")
