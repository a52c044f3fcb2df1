"""Relation networks: relations and their loss by hand, learning, and the claims about queries."""

import pytest
import torch
from torch import Tensor

from helpers.hidden_signal import (
    EASY,
    FLOAT64,
    TEST,
    Buried,
    accuracy,
    assert_adapting_changes_nothing,
    assert_gradient_is,
    assert_reads_support_labels_only,
    assert_restores,
    assert_shards_add_up,
    assert_transduction_is_as_claimed,
    builder_of,
    train,
)
from metabench import Episodes
from metabench_plugins.algorithms.relationnet import RelationNet, RelationNetLearner

learner_of = builder_of(RelationNetLearner)


def test_the_gradient_is_that_of_a_plain_loop_over_pairs() -> None:
    algorithm = RelationNet(queries="joined", train_ways=4)
    learner = learner_of(algorithm)
    features = learner.lifted.module.get_submodule("features")
    batch = Buried(FLOAT64).episodes("train", algorithm.train_protocol(TEST), range(3), seed=0)

    def task_loss(task: Episodes) -> Tensor:
        s, q = torch.split(features(torch.cat([task.support.x[0], task.query.x[0]])), [8, 12])
        errors = []
        for one, y in zip(q, task.query.y[0], strict=True):
            for k in range(4):
                summed = s[task.support.y[0] == k].sum(0)
                relation = learner.relation(torch.cat([summed, one])).sigmoid().squeeze()
                errors.append((relation - float(y == k)) ** 2)
        return torch.stack(errors).mean()

    assert_gradient_is(learner, batch, task_loss)


@pytest.mark.parametrize("queries", ["joined", "together", "alone"])
def test_the_claims_about_queries_hold(queries: str) -> None:
    learner = learner_of(RelationNet(queries=queries))
    batch = Buried(FLOAT64).episodes("test", TEST, range(3), seed=0)

    assert_transduction_is_as_claimed(learner, batch)
    assert_adapting_changes_nothing(learner, batch)
    assert_reads_support_labels_only(learner, batch)


def test_any_number_of_ranks_computes_the_same() -> None:
    batch = Buried(FLOAT64).episodes("train", TEST, range(7), seed=0)

    assert_shards_add_up(learner_of(RelationNet()), batch)


def test_training_goes_on_from_a_saved_state_as_before() -> None:
    batch = Buried(FLOAT64).episodes("train", TEST, range(4), seed=0)

    assert_restores(learner_of(RelationNet()), batch)


def test_it_learns() -> None:
    algorithm = RelationNet(rate=3e-3)
    source = Buried(FLOAT64)
    learner = learner_of(algorithm, EASY)
    untrained = accuracy(learner, source, EASY)

    train(learner, algorithm, source, EASY, steps=250)

    assert untrained < 0.4
    assert accuracy(learner, source, EASY) > 0.65
