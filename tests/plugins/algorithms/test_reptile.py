"""Reptile."""

from __future__ import annotations

import pytest
import torch

from helpers.problems import meta_train, points, points_learner, query_error, sinusoids, sinusoids_learner
from metabench import Invalid
from metabench_plugins.algorithms.reptile import Reptile


@pytest.mark.parametrize("mini_batch", [0, 7])
def test_query_error_on_sinusoids_falls_with_each_adaptation_step(mini_batch: int) -> None:
    learner = sinusoids_learner(Reptile(inner_rate=0.02, steps=8, mini_batch=mini_batch))
    floor = query_error(learner, 10)
    meta_train(learner, sinusoids, 300)
    errors = [query_error(learner, steps) for steps in (0, 1, 5, 10)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.7 * floor


def test_a_full_outer_step_ends_at_the_mean_of_the_tasks_weights() -> None:
    learner = points_learner(Reptile(inner_rate=0.1, steps=1, rate=1.0, mini_batch=0), dtype=torch.float64)
    episodes = points(4, 0, torch.float64)
    both = type(episodes.support)(
        torch.cat([episodes.support.x, episodes.query.x], 1),
        torch.cat([episodes.support.y, episodes.query.y], 1),
    )
    expected = learner.adapt(both, 1).weights["head.weight"].mean(0)
    learner.learn(episodes, 0, 10)
    learner.update(0, 10)
    assert torch.allclose(learner.network.module.head.weight, expected, rtol=1e-12, atol=1e-14)


def test_the_outer_step_falls_to_nothing() -> None:
    learner = points_learner(Reptile(rate=0.5))
    for step in range(4):
        learner.learn(points(4, step), step, 4)
        learner.update(step, 4)
    assert learner.optimizer.param_groups[0]["lr"] == 0.5 / 4


def test_mini_batches_are_the_same_for_all_ranks_and_go_through_all_examples() -> None:
    learner, other = (sinusoids_learner(Reptile(mini_batch=5, steps=4)) for _ in range(2))
    batches = learner._mini_batches(20, 3)
    assert sorted(torch.cat(batches).tolist()) == list(range(20))
    assert all(torch.equal(a, b) for a, b in zip(batches, other._mini_batches(20, 3), strict=True))
    assert torch.equal(learner.learn(sinusoids(3, 0), 3, 9), other.learn(sinusoids(3, 0), 3, 9))


def test_compilation_is_refused() -> None:
    with pytest.raises(Invalid, match="set execution to 'eager'"):
        points_learner(Reptile(execution="compiled"))
