"""Prototypical networks: prototypes and gradients by hand, and learning."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.problems import (
    CONV,
    EASY,
    FLOAT64,
    NORMED,
    PLAIN,
    TEST,
    Buried,
    accuracy,
    assert_gradient_is,
    build,
    train,
)
from metabench import Episodes, Protocol
from metabench.device import Device
from metabench.learning import STATISTICS, ModuleLearner, class_means, squared_distances
from metabench_plugins.algorithms.nearest_neighbour import NearestNeighbour
from metabench_plugins.algorithms.protonet import ProtoNet, ProtoNetLearner
from metabench_plugins.datasets.omniglot_small import OmniglotSmall
from metabench_plugins.networks.conv4 import Conv4


def test_a_prototype_is_the_mean_of_its_class() -> None:
    features = torch.tensor([[[1.0, 0.0], [3.0, 2.0], [10.0, -4.0]]])

    means = class_means(features, torch.tensor([[1, 1, 0]]), 3)

    assert means.tolist() == [[[10.0, -4.0], [2.0, 1.0], [0.0, 0.0]]]


def test_distances_are_squared_and_euclidean() -> None:
    a, b = torch.randn(2, 4, 7, dtype=torch.float64), torch.randn(2, 3, 7, dtype=torch.float64)

    torch.testing.assert_close(squared_distances(a, b), torch.cdist(a, b) ** 2)


@pytest.mark.parametrize("statistics", ["joined", "queries"])
@pytest.mark.parametrize("network", [CONV, NORMED, PLAIN], ids=["conv4", "normed-mlp", "mlp"])
def test_the_gradient_is_that_of_a_plain_loop_over_tasks(network: object, statistics: str) -> None:
    algorithm = ProtoNet(statistics=statistics, train_statistics=statistics, train_ways=7)
    learner = build(algorithm, network, TEST, device=FLOAT64)  # type: ignore[arg-type]  # a Network
    assert isinstance(learner, ProtoNetLearner)
    features = learner.lifted.module.get_submodule("features")
    batch = Buried(FLOAT64).episodes("train", algorithm.train_protocol(TEST), range(5), seed=0)

    def task_loss(task: Episodes) -> Tensor:
        support, query = task.support.x[0], task.query.x[0]
        if statistics == "joined":
            s, q = features(torch.cat([support, query])).split([len(support), len(query)])
        else:
            s, q = features(support), features(query)
        prototypes = torch.stack([s[task.support.y[0] == k].mean(0) for k in range(7)])
        distances = ((q[:, None] - prototypes[None]) ** 2).sum(2)
        return F.nll_loss((-distances).log_softmax(1), task.query.y[0])

    assert_gradient_is(learner, batch, task_loss)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_it_learns(statistics: str) -> None:
    algorithm = ProtoNet(statistics=statistics, train_ways=10, rate=3e-3)
    source = Buried(FLOAT64)
    learner = build(algorithm, NORMED, EASY, device=FLOAT64)
    untrained = accuracy(learner, source, EASY)

    train(learner, algorithm, source, EASY, steps=120)

    assert untrained < 0.5
    assert accuracy(learner, source, EASY) > 0.8


def test_the_rate_halves_as_set() -> None:
    learner = build(ProtoNet(rate=0.08, halve_every=2), NORMED, TEST, device=FLOAT64)
    assert isinstance(learner, ModuleLearner)
    assert learner.optimizer is not None
    rates = []
    for step in range(5):
        learner.learn(Buried(FLOAT64).episodes("train", TEST, range(1), seed=0), step, 5)
        rates.append(learner.optimizer.param_groups[0]["lr"])
        learner.update(step, 5)

    assert rates == pytest.approx([0.08, 0.08, 0.04, 0.04, 0.02])


def test_training_ways_and_queries_are_its_own() -> None:
    assert ProtoNet(train_ways=30, train_queries=2).train_protocol(TEST) == Protocol(30, 2, 2)
    assert ProtoNet().train_protocol(TEST) == TEST


@pytest.mark.slow
def test_it_learns_handwriting(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(real_data))
    omniglot = OmniglotSmall()
    source, test = omniglot.load(Device()), Protocol(5, 1, 5)
    algorithm = ProtoNet(train_ways=30, rate=3e-3)
    network = Conv4(downsample="pool")
    learner = build(algorithm, network, test, facts=omniglot.describe())
    floor = build(NearestNeighbour(), None, test, facts=omniglot.describe())

    train(learner, algorithm, source, test, steps=150, tasks=1)

    assert accuracy(floor, source, test, tasks=100) < 0.5
    assert accuracy(learner, source, test, tasks=100) > 0.85
