"""Searches: which trials they have, in which rounds, and what is chosen by their results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.results import made_cell, made_result
from metabench import Cell, Evaluation, Result, Spec
from metabench.plugins import Registry, load
from metabench.records.cell import Status
from metabench.records.tuning import Trial, Tuning, row_cell, size_of
from metabench.results.store import Store
from metabench.runner import execute, make_plan
from metabench.runner.execute import why_skipped
from metabench.runner.samplers import draw_trials
from metabench.runner.tuning import Choice, choose, collect, searches_of, set_superseded_aside
from metabench_plugins.algorithms.maml import Maml

SEARCH = Tuning(
    {"inner_rate": [0.01, 1.0, "log"], "steps": [1, 10, "linear"]}, {"inner_rate": 0.4, "steps": 1},
    "sobol", 1001, trials=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load()


def row(tuning: Tuning = SEARCH, seed: int = 0) -> Cell:
    """A row of a suite whose settings are searched."""
    cell = made_cell(seed=seed, steps=0)
    spec = Spec.of(Maml, {"inner_rate": 0.4})
    return replace(cell, algorithm=spec, evaluation=Evaluation(600, metric="accuracy", curve=(1,)),
                   tuning=tuning.to_json())  # fmt: skip


def by_rate(cell: Cell) -> Result:
    """A result whose score is best at an inner rate of 0.1; rates above 0.7 diverge."""
    rate = cell.algorithm.settings["inner_rate"]
    if rate > 0.7:
        return made_result(cell, status=Status.DIVERGED, scores=None, training=None, wall_seconds=1.0)
    return made_result(cell, 0.9 - abs(rate - 0.1), training=None, wall_seconds=2.0)


def chosen(
    registry: Registry, cells: Sequence[Cell], result_of: Callable[[Cell], Result] = by_rate
) -> tuple[Choice, dict[str, Result], list[int]]:
    """The choice, the results of all trials, and how many were asked for at a time."""
    asked = []

    def run(trials: Sequence[Cell]) -> Mapping[str, Result]:
        asked.append(len(trials))
        return {cell.digest: result_of(cell) for cell in trials}

    results = collect(searches_of(registry, cells).values(), run)
    return choose(registry, cells, results), results, asked


def test_every_seed_of_a_row_gets_the_settings_of_the_best_trial(registry: Registry) -> None:
    rows = [row(seed=0), row(seed=1)]
    choice, results, asked = chosen(registry, rows)
    best = max(
        (result for result in results.values() if result.scores),
        key=lambda result: sum(result.scores.per_task),
    )
    record = choice.records[choice.cells[0].digest]

    assert asked == [6]
    assert [cell.seed for cell in choice.cells] == [0, 1]
    assert {str(cell.algorithm.settings) for cell in choice.cells} == {str(best.cell.algorithm.settings)}
    assert choice.cells[0].tuning["chosen"] == best.cell.tuning["trial"] == record.best
    assert record.trials[0].settings == SEARCH.base
    assert "diverged" in {trial.status for trial in record.trials}
    assert record.seconds == sum(result.wall_seconds for result in results.values())
    assert [row_cell(cell).algorithm for cell in choice.cells] == [cell.algorithm for cell in rows]
    assert [row_cell(cell).tuning for cell in choice.cells] == [cell.tuning for cell in rows]


def test_trials_have_validation_tasks_and_a_seed_of_their_own(registry: Registry) -> None:
    _, results, _ = chosen(registry, [row()])
    trials = [result.cell for result in results.values()]

    assert {cell.scored_split for cell in trials} == {"validation"}
    assert {cell.seed for cell in trials} == {1001}
    assert {cell.evaluation for cell in trials} == {Evaluation(100, metric="accuracy")}
    assert [cell.id.split("-")[-2] for cell in trials] == ["t0", "t1", "t2", "t3", "t4", "t5"]
    assert row().scored_split == "test"


def test_a_longer_search_begins_with_the_trials_of_a_shorter_one(registry: Registry) -> None:
    rows = [row(replace(SEARCH, trials=count)) for count in (1, 3, 6)]
    choice, results, asked = chosen(registry, rows)

    assert asked == [6]
    assert [len(choice.records[cell.digest].trials) for cell in choice.cells] == [1, 3, 6]
    assert len({cell.digest for cell in choice.cells}) == 3
    assert len(results) == 6


def test_a_search_without_a_good_trial_says_how_its_trials_ended(registry: Registry) -> None:
    def fails(cell: Cell) -> Result:
        return replace(by_rate(cell), status=Status.FAILED, scores=None)

    choice, _, _ = chosen(registry, [row()], fails)

    assert list(choice.unchosen) == [row().digest]
    assert choice.unchosen[row().digest].endswith("could not be chosen: its 6 trials ended as failed")
    assert choice.cells == (row(),)


def test_an_interrupted_search_lacks_the_trials_without_a_result(registry: Registry) -> None:
    _, results, _ = chosen(registry, [row()])
    stored = dict(list(results.items())[:4])

    choice = choose(registry, [row()], stored)

    assert choice.due == 2
    assert choice.unchosen[row().digest] == "2 trials of its search have no result"


@pytest.mark.parametrize("sampler", ["sobol", "halton"])
def test_quasi_random_trials_are_distinct_and_the_same_for_any_number(sampler: str) -> None:
    search = replace(SEARCH, sampler=sampler, trials=64)
    long = draw_trials(search, range(64), [], True)
    short = draw_trials(replace(search, trials=5), range(5), [], True)
    rates = sorted(trial["inner_rate"] for trial in long)

    assert long[:5] == short
    assert len({str(sorted(trial.items())) for trial in long}) == 64
    assert all(0.01 <= rate <= 1.0 for rate in rates)
    assert 0.08 < rates[32] < 0.13  # the middle of a log-uniform axis
    assert {trial["steps"] for trial in long} == set(range(1, 11))
    assert long != draw_trials(replace(search, seed=1), range(64), [], True)


def test_quasi_random_trials_are_golden() -> None:
    assert draw_trials(SEARCH, range(3), [], True) == [
        {"inner_rate": 0.4, "steps": 1},
        {"inner_rate": 0.168, "steps": 1},
        {"inner_rate": 0.0168, "steps": 6},
    ]  # fmt: skip


def test_a_small_space_is_tried_whole() -> None:
    space = {"steps": [1, 3, "linear"], "first_order": {"choices": [True, False]}}
    search = replace(SEARCH, space=space, base={"steps": 1, "first_order": False}, trials=6)

    assert size_of(space) == 6
    assert len(draw_trials(search, range(6), [], True)) == 6


def test_tpe_learns_from_earlier_rounds_and_draws_the_same_again(registry: Registry) -> None:
    pytest.importorskip("optuna")
    search = replace(SEARCH, sampler="tpe", at_once=4, trials=10)
    choice, _, asked = chosen(registry, [row(search)])
    again, _, _ = chosen(registry, [row(search)])
    (record,) = choice.records.values()
    high = [Trial(trial.settings, "ok", trial.settings["inner_rate"], 1.0, "") for trial in record.trials[:4]]

    assert asked == [4, 4, 2]
    assert again == choice
    assert draw_trials(search, range(4, 8), high, True) != [t.settings for t in record.trials[4:8]]


def test_what_a_row_had_before_is_set_aside(registry: Registry, tmp_path: Path) -> None:
    choice, _, _ = chosen(registry, [row(seed=0), row(seed=1)])
    store = Store(tmp_path)
    cell = choice.cells[0]
    other = replace(cell, algorithm=Spec.of(Maml, {"inner_rate": 0.77}), tuning={**cell.tuning, "chosen": 3})
    shorter = replace(other, tuning={**other.tuning, "trials": 4})
    for stored in (cell, other, shorter, row(), choice.cells[1]):
        store.put(made_result(stored))

    assert sorted(set_superseded_aside(store, cell)) == sorted([other.id, row().id])
    assert sorted(path.stem for path in store.paths()) == sorted(
        stored.id for stored in (cell, shorter, choice.cells[1])
    )


def test_a_row_whose_hardware_is_absent_is_skipped_without_trials(registry: Registry, tmp_path: Path) -> None:
    suite = tmp_path / "far.toml"
    suite.write_text(
        'name = "far"\nversion = 1\n[[cells]]\nalgorithm = "maml"\nnetwork = "mlp"\ndataset = "sinusoid"\n'
        'backend = "cuda"\ntest = {ways = 1, shots = 5, queries = 5}\ntune = {trials = 2}\n'
    )
    plan = make_plan(str(suite), results=tmp_path, registry=registry)
    if why_skipped(registry, plan.cells[0], remote=False) is None:
        pytest.skip("there is a GPU")

    (result,) = execute(plan).results

    assert plan.choice.due == 2
    assert result.status is Status.SKIPPED
    assert not list(tmp_path.rglob("tuning/*.json"))
