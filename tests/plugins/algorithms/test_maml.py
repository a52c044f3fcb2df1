"""MAML."""

from __future__ import annotations

import pytest

from helpers.problems import meta_train, query_error, sinusoids, sinusoids_learner
from metabench import SettingError
from metabench.settings import complete
from metabench_plugins.algorithms.maml import Maml


@pytest.mark.parametrize("first_order", [False, True])
def test_query_error_on_sinusoids_falls_with_each_adaptation_step(first_order: bool) -> None:
    learner = sinusoids_learner(Maml(inner_rate=0.01, first_order=first_order))
    floor = query_error(learner, 10)
    meta_train(learner, sinusoids, 400)
    errors = [query_error(learner, steps) for steps in (0, 1, 2, 5, 10)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.6 * floor


def test_test_steps_are_those_of_training_unless_given() -> None:
    for test_steps, steps in ((None, 3), (5, 5)):
        learner = sinusoids_learner(Maml(inner_rate=0.01, steps=3, test_steps=test_steps))
        assert query_error(learner) == query_error(learner, steps) != query_error(learner, steps - 1)


def test_settings_are_checked() -> None:
    with pytest.raises(SettingError, match="inner_rate"):
        complete(Maml, {"inner_rate": 0})
