"""ANIL."""

from __future__ import annotations

import torch

from helpers.problems import meta_train, points, points_learner, query_error, sinusoids, sinusoids_learner
from metabench_plugins.algorithms.anil import Anil


def test_only_the_head_adapts_and_all_weights_learn() -> None:
    learner = points_learner(Anil(inner_rate=0.1))
    state = learner.adapt(points(4, 0).support)
    assert set(state.weights) == {"head.weight", "head.bias"}
    learner.learn(points(4, 0), 0, 1)
    assert all(float(p.grad.abs().max()) > 0 for p in learner.parameters())


def test_learns_sinusoids() -> None:
    learner = sinusoids_learner(Anil(inner_rate=0.02, rate=3e-3, steps=3))
    floor = query_error(learner)
    meta_train(learner, sinusoids, 400)
    assert query_error(learner) < 0.6 * floor
    assert query_error(learner, 3) < query_error(learner, 0)


def test_no_step_leaves_the_head_where_it_was() -> None:
    learner = points_learner(Anil())
    weights = learner.adapt(points(4, 0).support, 0).weights
    assert torch.equal(weights["head.weight"][2], learner.network.module.head.weight)
