"""Further metrics in rows, summaries, tables and files: beside the metric that ranks, never in its place."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from helpers.reports import content_in, content_of, table_of
from helpers.results import made_cell, made_result, store
from metabench import Result, Spec
from metabench.plugins import load
from metabench.records import MetricScores
from metabench.stats import estimate

METRICS = (Spec("nll", {}), Spec("ece", {"bins": 5}, ("bins",)))


def nats(seed: int, tasks: int = 600) -> tuple[float, ...]:
    common = np.random.default_rng(1).normal(0.8, 0.2, tasks)
    return tuple((common + np.random.default_rng([2, seed]).normal(0, 0.1, tasks)).tolist())


def with_further(name: str, seed: int, *, rescored: str = "", infinite: bool = False) -> Result:
    """A result with a mean over tasks and with a pooled score of 0.1, whose parts are equal."""
    cell = made_cell(name, seed)
    cell = replace(cell, evaluation=replace(cell.evaluation, metrics=METRICS))
    result = made_result(cell)
    assert result.scores is not None
    losses = (float("inf"), *nats(seed)[1:]) if infinite else nats(seed)
    further = {
        "nll": MetricScores(METRICS[0], "metabench 0.1.0", "nats", False, losses, rescored=rescored),
        "ece": MetricScores(METRICS[1], "metabench 0.1.0", "share", False, (0.1,) * 600, 0.1),
    }
    return replace(result, scores=replace(result.scores, further=further))


def board(names: Sequence[str] = ("maml", "protonet")) -> list[Result]:
    return [with_further(name, seed) for name in names for seed in (0, 1, 2)]


def test_row_has_the_value_and_interval_of_each_further_metric() -> None:
    (row,) = content_of([with_further("maml", 0)]).rows

    assert list(row["further"]) == ["nll", "ece"]
    assert row["further"]["nll"]["value"] == pytest.approx(fmean(nats(0)))
    assert row["further"]["nll"]["half_width"] == pytest.approx(
        1.964 * np.std(nats(0), ddof=1) / 600**0.5, rel=1e-3
    )
    assert (row["further"]["ece"]["value"], row["further"]["ece"]["pooled"]) == (0.1, True)
    assert row["further"]["ece"]["half_width"] == pytest.approx(0, abs=1e-9)


def test_summary_has_the_interval_over_crossed_seeds_and_tasks() -> None:
    (summary,) = content_of(board(["maml"])).summaries

    wanted = estimate(np.array([nats(seed) for seed in (0, 1, 2)]))
    assert summary["further"]["nll"]["value"] == pytest.approx(float(wanted.mean))
    assert summary["further"]["nll"]["half_width"] == pytest.approx(float(wanted.half_width()))


def test_table_of_scores_has_a_column_headed_by_each_metric_and_says_what_they_are() -> None:
    table = table_of(board(), "scores")
    columns, lines, notes = table.shown()
    headers = [column.header for column in columns]

    assert headers[headers.index("ece") - 1] == "nll"
    assert {line[headers.index("ece")] for line in lines} == {"10.00 ± 0.00 %"}
    assert all(line[headers.index("nll")].endswith(" nats") for line in lines)
    assert "nll, ece: of the same predictions; they select and rank nothing." in notes
    assert "ece: of all test tasks together, its interval by the jackknife over tasks." in notes
    assert table.ordered("nll", descending=True).records[0]["further.nll"] == max(
        record["further.nll"] for record in table.records
    )


def test_metric_that_was_added_later_is_named_with_its_date() -> None:
    results = [with_further("maml", seed, rescored="2026-05-01" if seed else "") for seed in (0, 1)]

    notes = table_of(results, "scores").shown()[2]

    assert "nll: added later, from stored predictions (last on 2026-05-01)." in notes


def test_metric_that_some_seeds_lack_is_not_averaged_over_the_others() -> None:
    lacking = made_result(made_cell("maml", 1))
    lacking = replace(lacking, cell=replace(lacking.cell, evaluation=with_further("maml", 1).cell.evaluation))

    (summary,) = content_of([with_further("maml", 0), lacking]).summaries

    assert summary["further"] == {}


def test_score_of_infinity_is_stored_and_shown_as_absent(tmp_path: Path) -> None:
    store(tmp_path, [with_further("maml", 0, infinite=True)])

    table = table_of(content_in([tmp_path], tmp_path / "cache"), "scores")
    headers, lines = [column.header for column in table.shown()[0]], table.shown()[1]

    assert lines[0][headers.index("nll")] == "–"
    assert lines[0][headers.index("ece")] == "10.00 ± 0.00 %"


def test_rows_from_the_cache_are_those_that_were_read(tmp_path: Path) -> None:
    store(tmp_path, board())

    first, again = (content_in([tmp_path], tmp_path / "cache") for _ in range(2))

    assert first.summaries == again.summaries
    assert all(
        np.array_equal(a, b) for a, b in zip(first.results.further, again.results.further, strict=True)
    )


def test_number_of_scores_that_is_not_that_of_the_tasks_is_no_result() -> None:
    result = with_further("maml", 0)
    assert result.scores is not None
    short = replace(result.scores.further["nll"], per_task=(0.5,))
    scores = replace(result.scores, further={"nll": short})

    with pytest.raises(ValueError, match="nll has 1 scores of 600 tasks"):
        content_of([replace(result, scores=scores)])


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["csv", "json", "site"])
def test_files_hold_the_figures(name: str, tmp_path: Path) -> None:
    source = tmp_path / "in"
    store(source, board())
    report = load().find("report", name).cls(**({"pictures": 0} if name == "site" else {}))

    written = report.write(content_in([source], tmp_path / "cache"), tmp_path)

    if name == "csv":
        lines = lines_of(tmp_path / "results.csv")
        assert {float(line["further.ece"]) for line in lines} == {0.1}
        assert float(lines[0]["further.nll"]) == pytest.approx(fmean(nats(0)))
        lines = lines_of(tmp_path / "scores.csv")
        assert [float(line["further.ece"]) for line in lines] == pytest.approx([0.1] * 2)
    elif name == "json":
        document = json.loads(written[0].read_text())
        assert document["results"][0]["further"]["ece"]["value"] == 0.1
    else:
        page = (tmp_path / "made-v1.html").read_text()
        assert '"title": "ece"' in page or '"title":"ece"' in page
        assert "10.00 \\u00b1 0.00 %" in page
        assert "ece" in (tmp_path / "made-v1.csv").read_text().splitlines()[0]
