"""Baseline: a new head fitted to each task, by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers.problems import (
    FLOAT64,
    TEST,
    Buried,
    builder_of,
)
from metabench_plugins.algorithms.baseline import Baseline, BaselineLearner

learner_of = builder_of(BaselineLearner)


def test_the_heads_are_those_of_torch_s_own_sgd_per_task() -> None:
    learner = learner_of(Baseline(head_steps=7, head_rate=0.3, head_decay=0.01))
    batch = Buried(FLOAT64).episodes("test", TEST, range(3), seed=0)
    features = learner.lifted.module.get_submodule("features")

    with torch.no_grad():
        scores = learner.predict(learner.adapt(batch.support), batch.query.x)

    for task in range(3):
        with torch.no_grad():
            s, q = features(batch.support.x[task]), features(batch.query.x[task])
        head = nn.Linear(16, 5, dtype=torch.float64)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        descent = torch.optim.SGD(head.parameters(), lr=0.3, momentum=0.9, dampening=0.9, weight_decay=0.01)
        for _ in range(7):
            descent.zero_grad()
            F.cross_entropy(head(s), batch.support.y[task]).backward()
            descent.step()
        torch.testing.assert_close(scores[task], head(q).detach(), rtol=1e-9, atol=1e-11)


def test_more_steps_fit_the_support_set_better() -> None:
    learner = learner_of(Baseline())
    batch = Buried(FLOAT64).episodes("test", TEST, range(8), seed=0)

    with torch.no_grad():
        losses = []
        for steps in (0, 10, 100):
            state = learner.adapt(batch.support, steps)
            scores = learner.score(state.fitted, learner.embed(batch.support.x))
            losses.append(float(F.cross_entropy(scores.flatten(0, 1), batch.support.y.flatten())))

    assert losses[0] == pytest.approx(torch.tensor(5.0).log().item())
    assert losses[0] > losses[1] > losses[2]
