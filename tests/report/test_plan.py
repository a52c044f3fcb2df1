"""What a wanted precision takes: the formula against simulation, and plans from stored results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from helpers.results import made_cell, made_result
from metabench import Protocol, stats
from metabench.cli import metabench
from metabench.records.task_classes import TaskClasses
from metabench.report.plan import PlannedProtocol, Wanted, measured, plan
from metabench.report.summary import Summaries
from metabench.results.table import Results

SPREAD = stats.Spread(task=0.01, seed=0.0004, rest=0.004, units=0.0005, seed_units=0.0003)


def test_the_planned_variance_is_that_of_simulated_means() -> None:
    rng = np.random.default_rng(1)
    trials, design = 3000, stats.Design(tasks=100, classes=30, seeds=3, ways=5)
    classes = np.argsort(rng.random((trials, 100, 30)), axis=2)[..., :5]
    effects = np.sqrt(SPREAD.units + SPREAD.seed_units / 3) * rng.standard_normal((trials, 30))
    of_classes = np.take_along_axis(effects, classes.reshape(trials, -1), axis=1).sum(1) / 100
    rest = np.sqrt(SPREAD.task / 100 + SPREAD.rest / 300 + SPREAD.seed / 3) * rng.standard_normal(trials)

    assert np.var(of_classes + rest) == pytest.approx(SPREAD.variance(design), rel=0.1)


@pytest.mark.parametrize("power", [False, True])
def test_the_fewest_tasks_and_classes_reach_the_aim_and_one_less_does_not(power: bool) -> None:
    design = stats.Design(tasks=600, classes=106, seeds=3, ways=5)
    width = stats.detectable if power else stats.planned_half_width

    tasks = stats.tasks_for(0.1, SPREAD, design, power=power)
    classes = stats.classes_for(0.1, SPREAD, design, power=power)

    assert tasks is not None
    assert (
        width(SPREAD, replace(design, tasks=tasks)) <= 0.1 < width(SPREAD, replace(design, tasks=tasks - 1))
    )
    assert classes is not None
    assert width(SPREAD, replace(design, classes=classes)) <= 0.1
    assert width(SPREAD, replace(design, classes=classes - 1)) > 0.1
    assert stats.tasks_for(0.001, SPREAD, design, power=power) is None


def test_spreads_are_found_again_in_scores_that_have_them() -> None:
    rng = np.random.default_rng(2)
    units = np.argsort(rng.random((2000, 200)), axis=1)[:, :5]
    redraw = stats.Redraw.of(units.tolist())
    assert redraw is not None
    effects = np.sqrt(SPREAD.units) * rng.standard_normal(200)
    effects = effects + np.sqrt(SPREAD.seed_units) * rng.standard_normal((5, 200))
    scores = effects[:, units].sum(-1) + np.sqrt(SPREAD.task) * rng.standard_normal(2000)
    scores = scores + np.sqrt(SPREAD.rest) * rng.standard_normal((5, 2000))

    spread = stats.spread_of(scores, redraw)

    assert spread.task == pytest.approx(SPREAD.task, rel=0.15)
    assert spread.rest == pytest.approx(SPREAD.rest, rel=0.1)
    assert spread.units == pytest.approx(SPREAD.units, rel=0.3)
    assert spread.seed_units == pytest.approx(SPREAD.seed_units, rel=0.3)


def test_a_plan_takes_its_spreads_from_stored_rows_that_recorded_their_classes() -> None:
    classes = TaskClasses.of(np.argsort(np.random.default_rng(3).random((600, 118)), axis=1)[:, :5].tolist())
    results = [made_result(made_cell(name, seed), 0.7) for name in ("a", "b") for seed in range(3)]
    recorded = [
        replace(result, scores=replace(result.scores, classes=classes)) for result in results if result.scores
    ]
    protocol = PlannedProtocol("glyphs", Protocol(5, 1, 15), 600, 118)

    assert measured(Summaries(Results.of(results)), protocol) is None
    spreads = measured(Summaries(Results.of(recorded)), protocol)
    assert spreads is not None
    assert spreads.rows == 2
    assert spreads.score.task == pytest.approx(0.08**2, rel=0.3)  # TASK_SPREAD of the helper
    lines = plan({protocol: spreads}, Wanted(0.01, 0.03)).records
    assert [line["seeds"] for line in lines] == [1, 3, 5, 10] * 2
    assert all(line["source"] == "2 stored rows" for line in lines)


def test_the_command_plans_from_assumptions_and_refuses_endless_tasks() -> None:
    planned = CliRunner().invoke(
        metabench, ["plan", "glyphs-board", "--precision", "2", "--seed-spread", "0"]
    )
    endless = CliRunner().invoke(metabench, ["plan", "sine"])

    assert planned.exit_code == 0, planned.output
    assert "± 2 points of a row" in planned.output
    assert "from: assumptions" in planned.output
    assert "no data set with a finite number of classes" in str(endless.exception)
