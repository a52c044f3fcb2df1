"""Relation networks: relations and their loss by hand, and learning."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from helpers.problems import (
    EASY,
    FLOAT64,
    NORMED,
    TEST,
    Buried,
    accuracy,
    assert_gradient_is,
    build,
    builder_of,
    train,
)
from metabench import Episodes, Invalid, Network
from metabench_plugins.algorithms.relationnet import ConvolutionalRelation, RelationNet, RelationNetLearner
from metabench_plugins.networks.conv4 import Conv4

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


MAPS = Conv4(width=3, downsample="pool", halvings=1, readout="flatten")
"""Maps of 4 × 4 from `Buried`."""


def test_the_convolutional_gradient_is_that_of_a_plain_loop_over_pairs() -> None:
    algorithm = RelationNet(module="convolution")
    learner = build(algorithm, MAPS, TEST, device=FLOAT64)
    assert isinstance(learner, RelationNetLearner)
    assert learner.path == "batched"
    assert learner.transductive
    features = learner.lifted.module.get_submodule("features")
    batch = Buried(FLOAT64).episodes("train", TEST, range(3), seed=0)

    def task_loss(task: Episodes) -> Tensor:
        s, q = (features(x[0]).view(-1, 3, 4, 4) for x in (task.support.x, task.query.x))
        classes = torch.stack([s[task.support.y[0] == k].sum(0) for k in range(5)])
        pairs = torch.stack([torch.cat([c, query]) for query in q for c in classes])
        relations = learner.relation(pairs.flatten(1)).sigmoid().view(len(q), 5)
        return (relations - torch.eye(5, dtype=relations.dtype)[task.query.y[0]]).square().mean()

    assert_gradient_is(learner, batch, task_loss)


def test_the_convolutional_module_has_the_authors_sizes() -> None:
    for side, inputs in ((7, 64), (21, 576)):  # of Omniglot and of mini-ImageNet
        module = ConvolutionalRelation((64, side, side), 8)
        linear = [layer for layer in module.layers if isinstance(layer, nn.Linear)]
        assert [(layer.in_features, layer.out_features) for layer in linear] == [(inputs, 8), (8, 1)]


@pytest.mark.parametrize(
    ("algorithm", "network", "reason"),
    [
        (RelationNet(module="convolution"), NORMED, "flattens maps of 4 × 4 and more, got vectors"),
        (RelationNet(module="convolution"), replace(MAPS, halvings=2), r"got \(3, 2, 2\)"),
        (RelationNet(module="convolution", statistics="joined"), MAPS, "must be 'queries', got 'joined'"),
    ],
)
def test_what_convolutions_cannot_compare_is_refused(
    algorithm: RelationNet, network: Network, reason: str
) -> None:
    with pytest.raises(Invalid, match=reason):
        build(algorithm, network, TEST)


def test_gradients_are_clipped_for_each_module() -> None:
    learner = learner_of(RelationNet(clip_norm=1e-4))
    learner.learn(Buried(FLOAT64).episodes("train", TEST, range(3), seed=0), 0, 1)

    learner.update(0, 1)

    for module in (learner.lifted.module, learner.relation):
        norms = [p.grad.norm() for p in module.parameters() if p.grad is not None]
        assert float(torch.stack(norms).norm()) == pytest.approx(1e-4, rel=0.05)
