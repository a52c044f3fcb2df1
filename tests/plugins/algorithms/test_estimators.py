"""Estimators of scikit-learn fitted to each task, against scikit-learn itself."""

import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression as Logistic
from sklearn.neighbors import KNeighborsClassifier

from metabench import Examples, Protocol, Workload
from metabench.device import Device
from metabench.records import Facts
from metabench_plugins.algorithms._estimator import EstimatorAlgorithm
from metabench_plugins.algorithms.boosted_trees import BoostedTrees
from metabench_plugins.algorithms.k_neighbours import KNeighbours
from metabench_plugins.algorithms.logistic_regression import LogisticRegression
from metabench_plugins.algorithms.nearest_centroid import NearestCentroid

WORKLOAD = Workload(Facts("classification", (3,)), None, Protocol(3, 4, 5))


def task() -> tuple[Examples, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(3).repeat(2, 4)
    return Examples(torch.randn(2, 12, 3, generator=generator) + y[..., None], y), torch.randn(
        2, 5, 3, generator=generator
    )


@pytest.mark.parametrize(
    ("algorithm", "estimator"),
    [
        (LogisticRegression(), Logistic(max_iter=1000, tol=1e-6)),
        (KNeighbours(), KNeighborsClassifier(5, weights="distance")),
        (
            BoostedTrees(trees=5),
            HistGradientBoostingClassifier(max_iter=5, max_depth=3, min_samples_leaf=1, early_stopping=False),
        ),
    ],
)
def test_predictions_are_those_of_scikit_learn(algorithm: EstimatorAlgorithm, estimator: object) -> None:
    support, query_x = task()
    learner = algorithm.build(WORKLOAD, None, Device())
    predicted = learner.predict(learner.adapt(support), query_x).exp()
    for number in range(2):
        estimator.fit(support.x[number].numpy(), support.y[number].numpy())  # type: ignore[attr-defined]
        expected = estimator.predict_proba(query_x[number].numpy())  # type: ignore[attr-defined]
        assert torch.allclose(predicted[number].double(), torch.as_tensor(expected).double(), atol=1e-6)


def test_standardised_inputs_may_have_any_unit() -> None:
    support, query_x = task()
    unit = torch.tensor([1.0, 1000.0, 0.001])
    for algorithm in (LogisticRegression(standardise=True), KNeighbours(standardise=True)):
        learner = algorithm.build(WORKLOAD, None, Device())
        plain = learner.predict(learner.adapt(support), query_x).exp()
        scaled = learner.predict(learner.adapt(Examples(support.x * unit, support.y)), query_x * unit).exp()
        assert torch.allclose(plain, scaled, atol=1e-4)


def test_the_nearest_centroid_is_that_of_the_class_means() -> None:
    support, query_x = task()
    learner = NearestCentroid().build(WORKLOAD, None, Device())
    means = torch.stack([support.x[0][support.y[0] == way].mean(0) for way in range(3)])
    expected = -(torch.cdist(query_x[0], means) ** 2)
    assert torch.allclose(learner.predict(learner.adapt(support), query_x)[0], expected, atol=1e-4)
