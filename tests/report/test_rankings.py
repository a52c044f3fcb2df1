"""What is ranked with what, and which intervals and tests hold for new classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helpers.results import made_board, made_cell, made_result, untrained
from metabench import Result
from metabench.records.summary import Summary
from metabench.records.task_classes import TaskClasses
from metabench.report import TABLES, Content
from metabench.report.comparison import compare
from metabench.report.limits import ANNEALED
from metabench.report.rankings import CONVERGED
from metabench.results.table import Results

IMAGES = 5 * (1 + 15)  # of a task of `made_cell`


def summaries(results: Sequence[Result]) -> dict[str, Summary]:
    return {summary["method"]: summary for summary in Content.of(Results.of(results)).summaries}


def notes(results: Sequence[Result]) -> str:
    return " ".join(TABLES["scores"](Content.of(Results.of(results)).source).notes)


def trained(name: str, mean: float, seed: int = 0, *, ended_by: str = "steps", **budget: Any) -> Result:
    """A result whose cell has another budget, and whose training was ended by something."""
    cell = made_cell(name, seed)
    result = made_result(replace(cell, budget=replace(cell.budget, **budget)), mean)
    assert result.training is not None
    return replace(result, training=replace(result.training, ended_by=ended_by))


def with_classes(result: Result, units: int = 40) -> Result:
    """The same result, which recorded the classes of its tasks."""
    assert result.scores is not None
    tasks = np.argsort(np.random.default_rng(1).random((len(result.scores.per_task), units)), axis=1)[:, :5]
    return replace(result, scores=replace(result.scores, classes=TaskClasses.of(tasks.tolist())))


def test_transductive_rows_are_ranked_by_themselves_and_floors_with_the_others() -> None:
    board = summaries(made_board())

    assert board["maml"]["transductive"]
    assert (board["maml"]["ranking"], board["maml"]["rank"], board["maml"]["rivals"]) == (
        f"transductive, {400 * 16 * IMAGES:,} images", 1, 1,
    )  # fmt: skip
    assert (board["protonet"]["rank"], board["nearest-neighbour"]["rank"]) == (1, 2)
    assert board["nearest-neighbour"]["ranking"] == board["protonet"]["ranking"]


def test_rows_of_one_budget_are_ranked_together_however_it_is_stated() -> None:
    images = 400 * 16 * IMAGES
    few, many = made_cell("a", steps=400, tasks=16), made_cell("b", steps=800, tasks=8)
    board = summaries([
        made_result(few, 0.7), made_result(many, 0.8), trained("c", 0.9, ended_by="images", images=images),
        trained("d", 0.95, steps=4000),
        untrained(made_cell("floor", steps=0), 0.4),
    ])  # fmt: skip

    assert {board[name]["ranking"] for name in ("a", "b", "c", "floor")} == {f"{images:,} images"}
    assert [board[name]["rank"] for name in ("c", "b", "a", "floor")] == [1, 2, 3, 4]
    assert (board["d"]["ranking"], board["d"]["rank"]) == (f"{10 * images:,} images", 1)
    assert board["d"]["rivals"] == 2  # it and the floor


def test_rows_that_trained_as_long_as_it_took_have_a_ranking_and_are_not_budget_limited() -> None:
    ended = [trained(name, 0.7, ended_by="patience", patience=3, steps=10_000) for name in ("a", "b")]
    board = summaries([*ended, made_result(made_cell("c"), 0.7)])

    assert board["a"]["ranking"] == board["b"]["ranking"] == CONVERGED
    assert board["c"]["ranking"] != CONVERGED
    assert not board["a"]["budget_limited"]
    assert "among rows of one ranking" in notes([*ended, made_result(made_cell("c"), 0.7)])


def test_annealing_is_no_proof_of_convergence_but_twice_the_training_is() -> None:
    def annealed(steps: int, mean: float) -> Result:
        result = made_result(made_cell("reptile", steps=steps, dataset="blobs"), mean)
        assert result.training is not None
        return replace(result, training=replace(result.training, annealed=True))

    def reasons(results: Sequence[Result]) -> dict[int, str]:
        return {s["steps"]: s["limited_reason"] for s in Content.of(Results.of(results)).summaries}

    assert reasons([annealed(400, 0.7)]) == {400: ANNEALED}
    assert reasons([annealed(400, 0.7), annealed(800, 0.7)]) == {400: "", 800: ANNEALED}
    assert reasons([annealed(400, 0.7), annealed(800, 0.8)]) == {400: ANNEALED, 800: ANNEALED}


def test_intervals_and_tiers_hold_for_new_classes_where_the_classes_are_recorded() -> None:
    plain = [made_result(made_cell(name, s), 0.7) for name in ("a", "b") for s in range(3)]
    recorded = [with_classes(result) for result in plain]
    old, new = summaries(plain), summaries(recorded)

    assert old["a"]["new_half_width"] is None
    assert old["a"]["half_width"] == new["a"]["half_width"]
    assert new["a"]["half_width"] is not None
    assert new["a"]["new_half_width"] is not None
    assert new["a"]["new_half_width"] >= new["a"]["half_width"]
    assert new["a"]["redrawn"] == "40 classes"
    assert (old["a"]["tested"], new["a"]["tested"]) == ("tasks", "classes")
    assert "of other classes nothing is known" in notes(plain)
    assert "tests hold for new classes too" in notes(recorded)


def test_results_that_recorded_the_classes_speak_for_older_ones_of_the_same_tasks() -> None:
    old, new = made_result(made_cell("old"), 0.7), with_classes(made_result(made_cell("new"), 0.7))

    assert summaries([old, new])["old"]["redrawn"] == "40 classes"
    disagreeing = with_classes(made_result(made_cell("other"), 0.7), units=50)
    assert summaries([old, new, disagreeing])["old"]["redrawn"] == ""


def test_a_comparison_says_what_it_holds_for() -> None:
    base, new = (Results.of([made_result(made_cell("a", s), 0.7) for s in range(2)]) for _ in range(2))
    recorded = Results.of([with_classes(made_result(made_cell("a", s), 0.7)) for s in range(2)])

    assert [line["holds"] for line in compare(base, new).section.records] == ["tasks"]
    assert [line["holds"] for line in compare(base, recorded).section.records] == ["classes"]


@pytest.mark.parametrize("broken", ["not base64", "AAAA", ""])
def test_classes_that_cannot_be_read_leave_the_interval_over_tasks(broken: str) -> None:
    result = with_classes(made_result(made_cell("a"), 0.7))
    assert result.scores is not None
    assert result.scores.classes is not None
    classes = replace(result.scores.classes, units=broken)

    board = summaries([replace(result, scores=replace(result.scores, classes=classes))])

    assert board["a"]["new_half_width"] is None
    assert board["a"]["half_width"] is not None


def test_packed_classes_are_read_back_as_they_were() -> None:
    tasks = [[3, 1], [65_535, 0, 7]]

    classes = TaskClasses.of(tasks, groups=[0, 1, 0])

    assert classes is not None
    assert classes.tasks(2) == tasks
    assert classes.groups_of_units(3) == [0, 1, 0]
    assert TaskClasses.of([[65_536]]) is None
    with pytest.raises(ValueError, match="must be of 3 tasks, got 2"):
        classes.tasks(3)
