"""Baseline++: cosine heads, fitted to each task."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.problems import (
    EASY,
    FACTS,
    FLOAT64,
    NORMED,
    TEST,
    Buried,
    build,
    builder_of,
    train,
)
from metabench import Protocol
from metabench.learning import class_means, cosines
from metabench_plugins.algorithms.baselinepp import BaselinePlusPlus, BaselinePlusPlusLearner, CosineHead

learner_of = builder_of(BaselinePlusPlusLearner)


def test_a_cosine_head_scores_directions_only() -> None:
    torch.manual_seed(0)
    head, x = CosineHead(6, 3, scale=10.0).double(), torch.randn(4, 6, dtype=torch.float64)

    scores = head(x)

    expected = 10 * F.cosine_similarity(x[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(scores, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(head(7 * x), scores, rtol=1e-12, atol=1e-12)


def test_the_heads_descend_the_support_loss_of_each_task() -> None:
    learner = learner_of(BaselinePlusPlus(head_rate=0.5, head_decay=0.0))
    batch = Buried(FLOAT64).episodes("test", TEST, range(3), seed=0)
    features = learner.lifted.module.get_submodule("features")

    with torch.no_grad():
        state = learner.adapt(batch.support, 1)

    for task in range(3):
        weight = learner.start.clone().requires_grad_()
        with torch.no_grad():
            s = features(batch.support.x[task])
        scores = 2 * F.cosine_similarity(s[:, None], weight[None], dim=2)
        (gradient,) = torch.autograd.grad(F.cross_entropy(scores, batch.support.y[task]), weight)
        torch.testing.assert_close(state.fitted[task], (weight - 0.5 * gradient).detach())


@pytest.mark.parametrize("test", [EASY, TEST])
def test_a_fitted_head_is_no_worse_than_the_class_means_of_the_same_features(test: Protocol) -> None:
    algorithm, source = BaselinePlusPlus(), Buried(FLOAT64)
    learner = learner_of(algorithm, test)
    train(learner, algorithm, source, test, steps=100)
    batch = source.episodes("test", test, range(300), seed=2026)

    with torch.no_grad():
        support, query = learner.embed(batch.support.x), learner.embed(batch.query.x)
        means = class_means(F.normalize(support, dim=2), batch.support.y, test.ways)
        fitted = learner.score(learner.fit(support, batch.support.y, test.ways), query).argmax(2)
        nearest = cosines(query, means).argmax(2)

    def accuracy(classes: Tensor) -> float:
        return float((classes == batch.query.y).double().mean())

    assert accuracy(nearest) > 0.4  # of 0.2 by chance
    assert accuracy(fitted) > accuracy(nearest) - 0.005


def test_a_head_of_many_classes_is_scaled_by_more() -> None:
    assert [training_scale(BaselinePlusPlus(), classes) for classes in (200, 201)] == [2.0, 10.0]
    assert training_scale(BaselinePlusPlus(scale=3.0), 201) == 3.0


def training_scale(algorithm: BaselinePlusPlus, classes: int) -> float:
    """Return the factor of the cosines in training on this many classes."""
    learner = build(algorithm, NORMED, TEST, facts=replace(FACTS, classes={"train": classes}))
    assert isinstance(learner, BaselinePlusPlusLearner)
    assert isinstance(learner.classifier, CosineHead)
    return learner.classifier.scale
