"""Metrics: scores by hand, and of unusual predictions."""

import math

import pytest
import torch

from metabench_plugins.metrics.accuracy import Accuracy
from metabench_plugins.metrics.auroc import Auroc
from metabench_plugins.metrics.ece import ExpectedCalibrationError
from metabench_plugins.metrics.macro_f1 import MacroF1
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


def test_query_without_a_class_lowers_macro_f1_as_a_miss() -> None:
    scores = MacroF1().score(torch.tensor([[0, 1, -1, 1]]), torch.tensor([[0, 0, 0, 1]]))

    assert scores.tolist() == pytest.approx([(2 * 1 / (1 + 3) + 2 * 1 / (2 + 1)) / 2])


def test_auroc_of_equal_scores_is_chance_and_of_nan_is_nan() -> None:
    prediction = torch.stack([torch.zeros(4, 2), torch.full((4, 2), math.nan)])

    chance, nothing = Auroc().score(prediction, torch.tensor([[0, 1, 0, 1]] * 2)).tolist()

    assert chance == 0.5
    assert math.isnan(nothing)


def test_auroc_leaves_out_a_class_without_queries() -> None:
    prediction = torch.tensor([[[2.0, 0.0, 9.0], [1.0, 3.0, 9.0]]])

    assert Auroc().score(prediction, torch.tensor([[0, 1]])).tolist() == [1.0]


def test_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    log_probabilities = torch.tensor([[[0.5, 0.5], [0.75, 0.25]]], dtype=torch.float64).log()

    parts = ExpectedCalibrationError(bins=2).score(log_probabilities, torch.tensor([[0, 0]]))

    assert parts.tolist() == [pytest.approx([-0.5, -0.25, 2.0])]


def test_calibration_error_is_of_all_tasks_together() -> None:
    metric = ExpectedCalibrationError(bins=1)
    log_probabilities = torch.full((2, 2, 2), 0.5).log()

    parts = metric.score(log_probabilities, torch.tensor([[0, 0], [1, 1]]))  # all right, all wrong

    assert metric.pool(parts).tolist() == [0.5, 0.5]
    assert metric.pool(parts.sum(0)).tolist() == pytest.approx(0.0)
