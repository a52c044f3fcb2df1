"""Relation networks: relations and their loss by hand, and learning."""

import torch
from torch import Tensor

from helpers.problems import (
    EASY,
    FLOAT64,
    TEST,
    Buried,
    accuracy,
    assert_gradient_is,
    builder_of,
    train,
)
from metabench import Episodes
from metabench_plugins.algorithms.relationnet import RelationNet, RelationNetLearner

learner_of = builder_of(RelationNetLearner)


def test_the_gradient_is_that_of_a_plain_loop_over_pairs() -> None:
    algorithm = RelationNet(statistics="joined", train_statistics="joined", train_ways=4)
    learner = learner_of(algorithm)
    features = learner.lifted.module.get_submodule("features")
    batch = Buried(FLOAT64).episodes("train", algorithm.train_protocol(TEST), range(3), seed=0)

    def task_loss(task: Episodes) -> Tensor:
        s, q = torch.split(features(torch.cat([task.support.x[0], task.query.x[0]])), [8, 12])
        errors = []
        for query, y in zip(q, task.query.y[0], strict=True):
            for k in range(4):
                summed = s[task.support.y[0] == k].sum(0)
                relation = learner.relation(torch.cat([summed, query])).sigmoid().squeeze()
                errors.append((relation - float(y == k)) ** 2)
        return torch.stack(errors).mean()

    assert_gradient_is(learner, batch, task_loss)


def test_it_learns() -> None:
    algorithm = RelationNet(rate=3e-3)
    source = Buried(FLOAT64)
    learner = learner_of(algorithm, EASY)
    untrained = accuracy(learner, source, EASY)

    train(learner, algorithm, source, EASY, steps=250)

    assert untrained < 0.4
    assert accuracy(learner, source, EASY) > 0.65
