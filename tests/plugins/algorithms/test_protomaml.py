"""Proto-MAML."""

from __future__ import annotations

import torch

from helpers.problems import POINT_WAYS, meta_train, points, points_learner
from metabench_plugins.algorithms.protomaml import ProtoMaml


def test_without_a_step_it_is_the_nearest_prototype() -> None:
    learner = points_learner(ProtoMaml(), dtype=torch.float64)
    episodes = points(5, 0, torch.float64)
    scores = learner.predict(learner.adapt(episodes.support, 0), episodes.query.x)
    embed = learner.network.module.features
    for t in range(5):
        features, queries = embed(episodes.support.x[t]), embed(episodes.query.x[t])
        means = torch.stack([features[episodes.support.y[t] == k].mean(0) for k in range(POINT_WAYS)])
        distance = torch.cdist(queries, means).square()
        expected = queries.square().sum(1, keepdim=True) - distance
        assert torch.allclose(scores[t], expected, rtol=1e-12, atol=1e-13)


def test_training_lowers_the_loss_on_queries() -> None:
    learner = points_learner(ProtoMaml(inner_rate=0.05, steps=2))
    before = float(learner.learn(points(64, 999), 0, 1).mean())
    meta_train(learner, points, 150)
    assert float(learner.learn(points(64, 999), 0, 1).mean()) < 0.8 * before
