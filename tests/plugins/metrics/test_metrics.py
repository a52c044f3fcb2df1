"""Metrics: scores by hand, and of unusual predictions."""

import math

import pytest
import torch

from metabench_plugins.metrics.accuracy import Accuracy
from metabench_plugins.metrics.mse import MeanSquaredError
from metabench_plugins.metrics.nll import NegativeLogLikelihood


def test_accuracy_is_the_fraction_of_correct_predictions_per_task() -> None:
    scores = Accuracy().score(torch.tensor([[0, 1], [1, 0]]), torch.tensor([[0, 1], [0, 0]]))

    assert scores.tolist() == [1.0, 0.5]


def test_mse_is_the_mean_over_queries_and_outputs() -> None:
    prediction = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    target = torch.tensor([[[1.0, 0.0], [0.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])

    assert MeanSquaredError().score(prediction, target).tolist() == [(4 + 9) / 4, 1.0]


def test_nll_of_equal_probabilities_is_log_ways() -> None:
    scores = NegativeLogLikelihood().score(
        torch.zeros(2, 6, 5).double().log_softmax(2), torch.randint(5, (2, 6))
    )

    assert scores.tolist() == pytest.approx([math.log(5)] * 2, rel=1e-14)


def test_nll_is_minus_the_log_of_the_true_classs_probability() -> None:
    probabilities = torch.tensor([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]], dtype=torch.float64)

    scores = NegativeLogLikelihood().score(probabilities.log(), torch.tensor([[0, 1]]))

    assert scores.tolist() == pytest.approx([-(math.log(0.7) + math.log(0.1)) / 2], rel=1e-14)
