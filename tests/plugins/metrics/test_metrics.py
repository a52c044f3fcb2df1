"""Metrics: scores by hand, and what an unusual prediction gives."""

import math

import pytest
import torch

from metabench import Metric
from metabench_plugins.metrics import metabench_metrics
from metabench_plugins.metrics.accuracy import Accuracy
from metabench_plugins.metrics.mse import MeanSquaredError
from metabench_plugins.metrics.nll import NegativeLogLikelihood


def test_accuracy_is_the_share_of_right_answers_per_task() -> None:
    prediction = torch.tensor([[[2.0, 1.0], [0.0, 3.0]], [[1.0, 2.0], [5.0, 4.0]]])

    shares = Accuracy().score(prediction, torch.tensor([[0, 1], [0, 0]]))

    assert shares.tolist() == [1.0, 0.5]


def test_accuracy_is_about_the_order_of_scores_only() -> None:
    prediction, target = torch.randn(3, 8, 5), torch.randint(5, (3, 8))

    scaled = Accuracy().score(100 * prediction - 7, target)

    assert torch.equal(scaled, Accuracy().score(prediction, target))


def test_a_score_that_is_no_number_is_never_right() -> None:
    prediction = torch.tensor([[[math.nan, 1.0], [math.nan, math.nan], [1.0, 0.0]]])

    assert Accuracy().score(prediction, torch.tensor([[0, 1, 0]])).tolist() == pytest.approx([1 / 3])


def test_mse_is_the_mean_over_queries_and_outputs() -> None:
    prediction = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    target = torch.tensor([[[1.0, 0.0], [0.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])

    assert MeanSquaredError().score(prediction, target).tolist() == [(4 + 9) / 4, 1.0]


def test_nll_of_an_even_guess_is_log_ways() -> None:
    even = NegativeLogLikelihood().score(torch.zeros(2, 6, 5).double(), torch.randint(5, (2, 6)))

    assert even.tolist() == pytest.approx([math.log(5)] * 2, rel=1e-14)


def test_nll_is_minus_the_log_of_the_true_class_share() -> None:
    shares = torch.tensor([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]], dtype=torch.float64)

    found = NegativeLogLikelihood().score(shares.log(), torch.tensor([[0, 1]]))

    assert found.tolist() == pytest.approx([-(math.log(0.7) + math.log(0.1)) / 2], rel=1e-14)


@pytest.mark.parametrize("metric", metabench_metrics(), ids=lambda metric: metric.name)
def test_scores_are_one_per_task_and_better_for_the_truth(metric: type[Metric]) -> None:
    if "classification" in metric.kinds:
        target = torch.randint(4, (6, 10))
        truth = torch.nn.functional.one_hot(target, 4).float()
    else:
        target = torch.randn(6, 10, 2)
        truth = target

    right, wrong = (metric().score(prediction, target) for prediction in (truth, -truth))

    assert right.shape == (6,)
    better = right > wrong if metric.higher_is_better else right < wrong
    assert bool(better.all())
