"""What a learner outputs, turned into what a metric takes."""

import math

import pytest
import torch

from metabench.learning import as_needed
from metabench.records.outputs import NEEDS, OUTPUTS, Needs, Outputs, mismatch

SCORES = torch.tensor([[[2.0, 1.0, 1.0], [0.0, 3.0, -1.0]]])


@pytest.mark.parametrize("outputs", ["log-probabilities", "logits", "scores"])
def test_class_of_a_query_is_that_of_its_highest_score_the_first_of_equals(outputs: Outputs) -> None:
    assert as_needed(SCORES, outputs, "classes").tolist() == [[0, 1]]
    assert as_needed(torch.zeros(1, 2, 3), outputs, "classes").tolist() == [[0, 0]]


def test_query_with_a_score_of_nan_has_no_class() -> None:
    prediction = torch.tensor([[[math.nan, 1.0], [math.nan, math.nan], [1.0, 0.0]]])

    assert as_needed(prediction, "scores", "classes").tolist() == [[-1, -1, 0]]


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
