"""Every built-in metric gives what scikit-learn gives for the same predictions, task by task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metabench import Metric
from metabench.scoring import as_needed
from metabench_plugins.metrics.accuracy import Accuracy
from metabench_plugins.metrics.auroc import Auroc
from metabench_plugins.metrics.ece import ExpectedCalibrationError
from metabench_plugins.metrics.macro_f1 import MacroF1
from metabench_plugins.metrics.mae import MeanAbsoluteError
from metabench_plugins.metrics.mse import MeanSquaredError
from metabench_plugins.metrics.nll import NegativeLogLikelihood

sklearn: Any = pytest.importorskip("sklearn.metrics", reason="pip install scikit-learn")
calibration: Any = pytest.importorskip("sklearn.calibration")

TASKS, QUERIES, WAYS = 6, 40, 5


def logits_and_targets(coarse: bool = False) -> tuple[Tensor, Tensor]:
    """Logits [T, q, ways] that are right about half of the time; coarse: with many equal scores."""
    generator = torch.Generator().manual_seed(7)
    target = torch.randint(WAYS, (TASKS, QUERIES), generator=generator)
    logits = torch.randn(TASKS, QUERIES, WAYS, generator=generator, dtype=torch.float64)
    logits += 1.2 * torch.nn.functional.one_hot(target, WAYS)
    return logits.round() if coarse else logits, target


def per_task(score: Callable[[Any, Any], float], prediction: Tensor, target: Tensor) -> list[float]:
    return [score(p.numpy(), t.numpy()) for p, t in zip(prediction, target, strict=True)]


def ours(metric: Metric, logits: Tensor, target: Tensor) -> list[float]:
    scores: list[float] = metric.score(as_needed(logits, "logits", metric.needs), target).tolist()
    return scores


def test_accuracy() -> None:
    logits, target = logits_and_targets()
    theirs = per_task(lambda p, t: sklearn.accuracy_score(t, p.argmax(1)), logits, target)

    assert ours(Accuracy(), logits, target) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("predicted_classes", [WAYS, 3])
def test_macro_f1(predicted_classes: int) -> None:
    logits, target = logits_and_targets()
    logits[..., predicted_classes:] -= 100  # these classes are never predicted
    target[0].clamp_(max=1)  # and these are no targets of the first task
    theirs = per_task(lambda p, t: sklearn.f1_score(t, p.argmax(1), average="macro"), logits, target)

    assert ours(MacroF1(), logits, target) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("coarse", [False, True])
def test_auroc_of_each_class_against_the_rest(coarse: bool) -> None:
    logits, target = logits_and_targets(coarse)
    probabilities = logits.softmax(2)
    theirs = per_task(lambda p, t: sklearn.roc_auc_score(t, p, multi_class="ovr"), probabilities, target)

    scores = Auroc().score(probabilities, target).tolist()

    assert scores == pytest.approx(theirs, rel=1e-9)


def test_nll() -> None:
    logits, target = logits_and_targets()
    theirs = per_task(lambda p, t: sklearn.log_loss(t, p, labels=range(WAYS)), logits.softmax(2), target)

    assert ours(NegativeLogLikelihood(), logits, target) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_ece_is_that_of_the_calibration_curve_over_all_tasks(bins: int) -> None:
    logits, target = logits_and_targets()
    confidence, predicted = (values.flatten().numpy() for values in logits.softmax(2).max(2))
    correct = predicted == target.flatten().numpy()
    accuracy, mean_confidence = calibration.calibration_curve(correct, confidence, n_bins=bins)
    counts = np.histogram(confidence, np.linspace(0, 1, bins + 1))[0]
    theirs = np.average(abs(accuracy - mean_confidence), weights=counts[counts > 0])

    metric = ExpectedCalibrationError(bins=bins)
    parts = metric.score(as_needed(logits, "logits", metric.needs), target)

    assert float(metric.pool(parts.sum(0))) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(
    ("metric", "name"),
    [(MeanSquaredError(), "mean_squared_error"), (MeanAbsoluteError(), "mean_absolute_error")],
)
def test_errors_of_regression(metric: Metric, name: str) -> None:
    generator = torch.Generator().manual_seed(7)
    prediction, target = torch.randn(2, TASKS, QUERIES, 2, generator=generator, dtype=torch.float64)
    theirs = per_task(lambda p, t: getattr(sklearn, name)(t, p), prediction, target)

    assert metric.score(prediction, target).tolist() == pytest.approx(theirs, rel=1e-12)
