"""Predictions become scores: what a metric is given, and what it gives tasks one by one and together."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from broken.metrics import OverShare
from metabench import Invalid, Spec
from metabench.records.outputs import NEEDS, OUTPUTS, Needs, Outputs, mismatch
from metabench.scoring import as_needed, metric_scores, score_rows
from metabench.stats import half_width, pseudo_values
from metabench_plugins.metrics.ece import ExpectedCalibrationError
from metabench_plugins.metrics.nll import NegativeLogLikelihood

SCORES = torch.tensor([[[2.0, 1.0, 1.0], [0.0, 3.0, -1.0]]])


@pytest.mark.parametrize("outputs", ["log-probabilities", "logits", "scores"])
def test_class_of_a_query_is_that_of_its_highest_score_the_first_of_equals(outputs: Outputs) -> None:
    assert as_needed(SCORES, outputs, "classes").tolist() == [[0, 1]]
    assert as_needed(torch.zeros(1, 2, 3), outputs, "classes").tolist() == [[0, 0]]


def test_query_with_a_score_of_nan_has_no_class() -> None:
    prediction = torch.tensor([[[math.nan, 1.0], [math.nan, math.nan], [1.0, 0.0]]])

    assert as_needed(prediction, "scores", "classes").tolist() == [[-1, -1, 0]]


def test_share_beyond_a_whole_ends_the_run() -> None:
    with pytest.raises(Invalid, match=r"'over-share' of unit 'share' must give scores from 0 to 1, got 1\.7"):
        score_rows(OverShare(), "scores", SCORES, torch.tensor([[0, 1]]))


@pytest.mark.parametrize("needs", ["probabilities", "scores"])
def test_logits_become_log_probabilities(needs: Needs) -> None:
    log_probabilities = as_needed(SCORES + 100, "logits", needs)

    torch.testing.assert_close(log_probabilities, SCORES.log_softmax(2), rtol=0, atol=2e-5)


def test_logits_of_half_precision_are_normalised_in_float32() -> None:
    assert as_needed(SCORES.bfloat16(), "logits", "probabilities").dtype == torch.float32


def test_everything_else_is_given_as_it_is() -> None:
    assert as_needed(SCORES, "scores", "scores") is SCORES
    assert as_needed(SCORES, "log-probabilities", "probabilities") is SCORES
    assert as_needed(SCORES, "values", "values") is SCORES


@pytest.mark.parametrize("needs", NEEDS)
@pytest.mark.parametrize("outputs", OUTPUTS)
def test_outputs_that_do_not_serve_are_refused_by_name(outputs: Outputs, needs: Needs) -> None:
    reason = mismatch("nll", needs, "simpleshot", outputs)
    if reason is None:
        as_needed(SCORES, outputs, needs)
        return
    assert reason.startswith(f"metric 'nll' needs {needs}; algorithm 'simpleshot' predicts ")
    with pytest.raises(ValueError, match="cannot score"):
        as_needed(SCORES, outputs, needs)


def test_scores_without_a_scale_are_no_probabilities() -> None:
    assert mismatch("nll", "probabilities", "simpleshot", "scores") == (
        "metric 'nll' needs probabilities; algorithm 'simpleshot' predicts scores without a scale, "
        "which no softmax turns into probabilities"
    )


def logits_and_targets(tasks: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(tasks, 20, 4, generator=generator), torch.randint(4, (tasks, 20), generator=generator)


def test_pooled_metric_is_scored_on_all_tasks_and_on_all_but_each_one() -> None:
    metric, (logits, target) = ExpectedCalibrationError(bins=5), logits_and_targets()

    scores = metric_scores(
        metric, Spec("ece", {"bins": 5}), "here 1.0", score_rows(metric, "logits", logits, target)
    )

    def together(chosen: list[int]) -> float:
        parts = metric.score(logits[chosen].log_softmax(2), target[chosen])
        return float(metric.pool(parts.sum(0)))

    every = list(range(7))
    assert scores.pooled == scores.value == pytest.approx(together(every))
    assert scores.per_task == pytest.approx([together([i for i in every if i != t]) for t in every])


def test_pseudo_values_of_a_mean_are_the_tasks_own_scores() -> None:
    own = np.random.default_rng(0).normal(size=50)
    left_out = (own.sum() - own) / 49

    assert pseudo_values(own.mean(), left_out) == pytest.approx(own, abs=1e-12)


def test_jackknife_interval_of_a_calibration_error_is_as_wide_as_it_varies() -> None:
    """The half width over 100 tasks, against the spread of the errors of 200 other draws of 100 tasks."""
    metric = ExpectedCalibrationError(bins=5)
    generator = torch.Generator().manual_seed(0)
    errors, halves = [], []
    for _ in range(200):
        logits = 2 * torch.randn(100, 10, 3, generator=generator)
        target = torch.randint(3, (100, 10), generator=generator)
        parts = metric.score(logits.log_softmax(2), target)
        errors.append(float(metric.pool(parts.sum(0))))
        values = pseudo_values(errors[-1], metric.pool(parts.sum(0) - parts).numpy())
        halves.append(half_width(float(values.std(ddof=1)), 100))

    assert np.mean(halves) == pytest.approx(1.984 * np.std(errors), rel=0.1)


def test_metric_that_gives_too_few_scores_is_refused() -> None:
    class First(NegativeLogLikelihood):
        def score(self, prediction: Tensor, target: Tensor) -> Tensor:
            return super().score(prediction, target)[:1]

    with pytest.raises(Invalid, match=r"metric 'nll' must give scores \[T\] for 7 tasks, got \(1,\)"):
        score_rows(First(), "logits", *logits_and_targets())
