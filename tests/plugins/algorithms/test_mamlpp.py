"""MAML++."""

from __future__ import annotations

import pytest

from helpers.problems import meta_train, query_error, sinusoids, sinusoids_learner
from metabench_plugins.algorithms.mamlpp import MamlPlusPlus, multi_step_weights


def test_weights_of_the_steps_move_to_the_last_one() -> None:
    first = multi_step_weights(5, 0, 10)
    assert first == pytest.approx([0.2] * 5)
    lasts = [multi_step_weights(5, step, 10)[-1] for step in range(12)]
    assert lasts == sorted(lasts)
    assert multi_step_weights(5, 10, 10) == [0, 0, 0, 0, 1]
    assert all(sum(multi_step_weights(5, step, 10)) == pytest.approx(1) for step in range(12))
    assert min(multi_step_weights(5, 9, 10)) == pytest.approx(0.2 / 10)


def test_learns_sinusoids_and_a_rate_per_layer_and_step() -> None:
    learner = sinusoids_learner(MamlPlusPlus(inner_rate=0.01, steps=3, rate=3e-3))
    floor = query_error(learner)
    meta_train(learner, sinusoids, 300)
    assert query_error(learner) < 0.6 * floor
    assert learner.rates.shape == (3, 6)
    assert float(learner.rates.detach().std()) > 1e-4


def test_the_outer_rate_falls_along_a_cosine() -> None:
    learner = sinusoids_learner(MamlPlusPlus(rate=1e-2, final_rate=1e-4))
    rates = []
    for step in range(5):
        learner.learn(sinusoids(2, step), step, 5)
        learner.update(step, 5)
        rates.append(learner.optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(1e-2)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(1e-4 + 0.0099 * (1 + 0.30902 - 1 + 0 - 0.118034) / 2, rel=1e-2)


def test_phases_change_when_the_annealing_does() -> None:
    learner = sinusoids_learner(MamlPlusPlus(multi_step_share=0.2, first_order_share=0.5))
    phases = [learner.phase(step, 10) for step in range(10)]
    assert phases == [None, None, *["first order"] * 3, *["second order"] * 5]
