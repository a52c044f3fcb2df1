"""Baseline++: cosine heads, fitted to each task."""

import torch
from torch.nn import functional as F

from helpers.problems import (
    FLOAT64,
    TEST,
    Buried,
    builder_of,
)
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
        scores = 10 * F.cosine_similarity(s[:, None], weight[None], dim=2)
        (gradient,) = torch.autograd.grad(F.cross_entropy(scores, batch.support.y[task]), weight)
        torch.testing.assert_close(state.fitted[task], (weight - 0.5 * gradient).detach())
