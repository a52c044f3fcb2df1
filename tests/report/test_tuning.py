"""The table of searches, and the ranking of rows by how many trials chose their settings."""

from dataclasses import replace

from helpers.results import made_cell, made_result
from helpers.searches import SEARCH, best_near_one, searched_results, searched_row
from metabench import Cell, Result
from metabench.report.content import Content
from metabench.results.table import Results


def test_a_search_is_a_line_of_its_score_against_its_trials() -> None:
    rows = [searched_row(seed, replace(SEARCH, trials=trials)) for trials in (4, 1) for seed in (0, 1)]
    results, _ = searched_results(rows)
    content = Content.of(Results.of(results))
    (table,) = content.sections(["tuning"])
    columns, texts, notes = table.shown()
    lines = [dict(zip((column.header for column in columns), line, strict=True)) for line in texts]

    assert [(line["trials"], line["chosen"]) for line in lines] == [("1", "0"), ("4", "1")]
    assert "seeds: 2" in notes[0]
    assert [line["settings"] for line in lines] == ["inner_rate=0.5", "inner_rate=0.84"]
    assert lines[1]["validation"].count("→") == 2
    assert [line["tuning s"] for line in lines] == ["30.0", "120"]


def test_rows_of_as_many_trials_are_ranked_together() -> None:
    results, _ = searched_results([searched_row(0), searched_row(1)])
    cell = replace(results[0].cell, tuning={})
    content = Content.of(Results.of([*results, made_result(cell, 0.7)]))

    assert sorted(summary["ranking"] for summary in content.summaries) == [
        "transductive, 512,000 images", "transductive, 512,000 images, 4 tuning trials",
    ]  # fmt: skip
    assert "tuning trials" in [column.header for column in content.sections(["scores"])[0].columns]


def test_a_report_without_searches_does_not_speak_of_them() -> None:
    content = Content.of(Results.of([made_result(made_cell())]))

    assert "tuning" not in [section.name for section in content.sections()]
    assert "tuning trials" not in [column.header for column in content.sections(["scores"])[0].columns]


def test_a_row_is_compared_with_itself_whatever_settings_its_search_chose() -> None:
    def best_near_zero(cell: Cell) -> Result:
        return made_result(cell, 0.9 - cell.algorithm.settings["inner_rate"] / 10)

    sides = [searched_results([searched_row()], how)[0] for how in (best_near_one, best_near_zero)]
    first, second = (Results.of(results).rows[0] for results in sides)

    assert first["tuning_chosen"] != second["tuning_chosen"]
    assert first["configuration"] != second["configuration"]
    assert first["match"] == second["match"]
