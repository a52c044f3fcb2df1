"""BOIL."""

from __future__ import annotations

from helpers.problems import points, points_learner
from metabench_plugins.algorithms.boil import Boil


def test_all_but_the_head_adapt_and_all_weights_learn() -> None:
    learner = points_learner(Boil(inner_rate=0.1))
    state = learner.adapt(points(4, 0).support)
    assert state.weights
    assert all(name.startswith("features.") for name in state.weights)
    learner.learn(points(4, 0), 0, 1)
    assert all(float(p.grad.abs().max()) > 0 for p in learner.parameters())
