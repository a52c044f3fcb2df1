"""The evaluation: the same test tasks for all, and the check of what predictions depend on."""

import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from helpers.toy_runs import Follower, Shifts, run_of
from metabench import Budget, Diverged, Evaluation, Protocol, Spec, VariedProtocol
from metabench.data.order import draw_episodes
from metabench.data.shapes import shape_of
from metabench.worker.cell_run import manifest_digest
from metabench.worker.evaluation import evaluate
from metabench.worker.training import train
from metabench_plugins.metrics.mae import MeanAbsoluteError
from metabench_plugins.metrics.mse import MeanSquaredError


class Mask(Follower):
    """Refuses to answer with -inf: below the mean of the queries, or everywhere."""

    def __init__(self, everywhere: bool) -> None:
        super().__init__()
        self.everywhere = everywhere

    def predict(self, state: Tensor, query_x: Tensor) -> Tensor:
        refused = torch.ones_like(query_x).bool() if self.everywhere else query_x < query_x.mean(1, True)
        return super().predict(state, query_x).masked_fill(refused, -math.inf)


class Crowd(Follower):
    """Cannot predict a single query, as batch norm cannot; `peeks` at the number of the others."""

    def __init__(self, peeks: bool) -> None:
        super().__init__()
        self.peeks = peeks

    def predict(self, state: Tensor, query_x: Tensor) -> Tensor:
        assert query_x.shape[1] > 1
        spread = query_x.std(1, keepdim=True) if self.peeks else 0.0
        return super().predict(state, query_x) + spread


class Peeker(Follower):
    """Predicts with the mean of the queries: the others of the task show."""

    def predict(self, state: Tensor, query_x: Tensor) -> Tensor:
        return super().predict(state, query_x) + query_x.mean(1, keepdim=True)


class EqualScore(MeanSquaredError):  # noqa: N818 - a metric
    """Finds every prediction as good, so that one of infinity can be scored."""

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        return torch.zeros(len(prediction))


def test_test_score_that_is_no_number_is_no_result() -> None:
    run = run_of(Follower(offsets=[math.nan]), Budget(steps=1))
    train(run)
    with pytest.raises(Diverged, match="not finite"):
        evaluate(run)


def test_test_tasks_are_the_same_for_every_training_seed_and_curve_follows_the_steps() -> None:
    evaluation = Evaluation(12, metric="mse", batch=5, curve=(0, 2), latency_tasks=3)
    scores = evaluate(run_of(Follower(), Budget(), evaluation))
    assert scores.manifest == manifest_digest(Shifts(), "test", Protocol(1, 3, 2), evaluation)
    other = manifest_digest(Shifts(), "test", Protocol(1, 3, 2), Evaluation(12, seed=2))
    assert scores.manifest != other
    assert scores.adapt_tasks == (5, 5, 2)
    assert len(scores.latency_seconds) == 3
    assert scores.curve["0"] == pytest.approx([1.0] * 12)
    assert scores.curve["2"] == pytest.approx([9.0] * 12)


def test_dependence_on_other_queries_is_found_out() -> None:
    assert evaluate(run_of(Follower(), Budget())).transductive_found is False
    assert evaluate(run_of(Peeker(), Budget())).transductive_found is True


@pytest.mark.parametrize(("learner", "depends"), [(Peeker(), True), (Follower(), None)])
def test_tasks_of_a_single_query_hide_no_dependence(learner: Follower, depends: bool | None) -> None:
    protocol = VariedProtocol(1, 3, 2, least_shots=3)
    queries = [shape_of(Shifts(), "test", protocol, index, Evaluation().seed).queries for index in range(4)]
    assert min(queries) == 1 < max(queries)
    run = run_of(learner, Budget())
    run.cell = replace(run.cell, test=protocol)

    assert evaluate(run).transductive_found is depends


@pytest.mark.parametrize("queries", [2, 3, 4, 5])
@pytest.mark.parametrize("peeks", [True, False])
def test_check_of_transduction_never_asks_for_a_single_query(queries: int, peeks: bool) -> None:
    run = run_of(Crowd(peeks), Budget())
    run.cell = replace(run.cell, test=Protocol(1, 3, queries))
    assert evaluate(run).transductive_found is peeks


@pytest.mark.parametrize("everywhere", [True, False])
def test_check_of_transduction_compares_infinities(everywhere: bool) -> None:
    run = run_of(Mask(everywhere), Budget())
    run.metric = EqualScore()
    assert evaluate(run).transductive_found is not everywhere


class Absolute(MeanAbsoluteError):  # noqa: N818 - a metric
    """Counts how often it is asked."""

    asked: ClassVar[list[int]] = []

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.asked.append(len(target))
        return super().score(prediction, target)


def test_further_metrics_score_the_predictions_of_the_test_once_and_no_validation() -> None:
    evaluation = Evaluation(12, metric="mse", batch=5, metrics=(Spec("mae"),), curve=(0,))
    budget = Budget(steps=2, tasks=2, validate_every=1, validation_tasks=4)
    run = run_of(Follower(offsets=[2.0, 3.0]), budget, evaluation)
    run.further = {"mae": Absolute()}
    Absolute.asked.clear()

    train(run)
    scores = evaluate(run)

    assert Absolute.asked == [5, 5, 2]
    mae = scores.further["mae"]
    assert mae.per_task == pytest.approx([score**0.5 for score in scores.per_task])
    assert (mae.metric, mae.unit, mae.higher_is_better, mae.pooled) == (Spec("mae"), "", False, None)


def test_kept_predictions_are_those_that_were_scored_with_their_places_in_the_manifest() -> None:
    evaluation = Evaluation(7, metric="mse", batch=3, predictions=True)
    run = run_of(Peeker(), Budget(), evaluation)
    scores = evaluate(run)

    drawn = draw_episodes(run.source, "test", run.cell.test, range(7), evaluation.seed)
    laid = run.source.episodes("test", run.cell.test, range(7), evaluation.seed)
    assert len(run.predictions) == 7
    for number, task in enumerate(run.predictions):
        assert ((task.prediction - task.target) ** 2).mean() == scores.per_task[number]
        assert task.target.tolist() == drawn.query.y[number].tolist()
        assert laid.query.x[number][task.order].tolist() == drawn.query.x[number].tolist()


def test_predictions_are_kept_where_the_suite_asks_for_them_alone() -> None:
    run = run_of(Follower(), Budget())
    evaluate(run)
    assert not run.predictions
