"""MAML."""

from __future__ import annotations

import pytest

from helpers.problems import built, query_error, trained
from metabench import SettingError
from metabench.settings import complete
from metabench_plugins.algorithms.maml import Maml


@pytest.mark.parametrize("first_order", [False, True])
def test_query_error_on_sinusoids_falls_with_each_adaptation_step(first_order: bool) -> None:
    learner = built(Maml(inner_rate=0.01, first_order=first_order), "regression")
    floor = query_error(learner, 10)
    trained(learner, 400)
    errors = [query_error(learner, steps) for steps in (0, 1, 2, 5, 10)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.6 * floor


def test_test_steps_are_those_of_training_unless_given() -> None:
    for test_steps, wanted in ((None, 3), (5, 5)):
        learner = built(Maml(inner_rate=0.01, steps=3, test_steps=test_steps), "regression")
        assert query_error(learner) == query_error(learner, wanted) != query_error(learner, wanted - 1)


def test_a_network_without_batch_norm_is_not_transductive() -> None:
    assert not built(Maml()).transductive


def test_settings_are_checked() -> None:
    with pytest.raises(SettingError, match="inner_rate"):
        complete(Maml, {"inner_rate": 0})
