"""Reptile."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.testing import assert_close

from helpers.problems import meta_train, points, points_learner, query_error, sinusoids, sinusoids_learner
from metabench import Episodes, Invalid
from metabench_plugins.algorithms.reptile import Reptile


@pytest.mark.parametrize(
    ("mini_batch", "optimizer", "rate"), [(0, "sgd", 0.02), (7, "sgd", 0.02), (7, "adam", 0.005)]
)
def test_query_error_on_sinusoids_falls_with_each_adaptation_step(
    mini_batch: int, optimizer: str, rate: float
) -> None:
    settings = Reptile(inner_rate=rate, inner_optimizer=optimizer, steps=8, mini_batch=mini_batch)
    learner = sinusoids_learner(settings)
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


def test_adam_goes_on_from_the_second_moments_that_the_tasks_of_the_steps_before_left() -> None:
    settings = Reptile(inner_optimizer="adam", inner_rate=0.01, steps=3, mini_batch=0)
    learner = points_learner(settings, dtype=torch.float64)
    module = learner.network.module
    count, squares = 0, [torch.zeros_like(weight) for weight in module.parameters()]
    for step in range(2):
        episodes = points(4, step, torch.float64)
        start, ends = [weight.detach().clone() for weight in module.parameters()], []
        for x, y in zip(*_joined(episodes), strict=True):
            weights, moments = [w.clone().requires_grad_() for w in start], [s.clone() for s in squares]
            for k in range(count + 1, count + 4):
                named = dict(zip(dict(module.named_parameters()), weights, strict=True))
                loss = F.cross_entropy(functional_call(module, named, (x,)), y)
                for place, gradient in enumerate(torch.autograd.grad(loss, weights)):
                    moments[place] = 0.999 * moments[place] + 0.001 * gradient**2
                    size = (moments[place] / (1 - 0.999**k)).sqrt() + 1e-8
                    weights[place] = (weights[place] - 0.01 * gradient / size).detach().requires_grad_()
            ends.append((weights, moments))
        count, rate = count + 3, 1 - step / 10
        squares = [torch.stack(moments).mean(0) for moments in zip(*(m for _, m in ends), strict=True)]
        means = [torch.stack(weights).mean(0) for weights in zip(*(w for w, _ in ends), strict=True)]
        expected = [phi + rate * (mean - phi) for phi, mean in zip(start, means, strict=True)]

        learner.learn(episodes, step, 10)
        learner.update(step, 10)

        assert_close(list(module.parameters()), expected, rtol=1e-9, atol=1e-12)
    assert int(learner.moments.count) == 6
    assert_close(list(learner.moments.squares), squares, rtol=1e-9, atol=1e-12)


def _joined(episodes: Episodes) -> tuple[Tensor, Tensor]:
    support, query = episodes.support, episodes.query
    return torch.cat([support.x, query.x], 1), torch.cat([support.y, query.y], 1)


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
