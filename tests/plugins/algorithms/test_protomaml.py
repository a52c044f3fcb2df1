"""Proto-MAML."""

from __future__ import annotations

import pytest
import torch

from helpers.problems import PLAIN, POINT_WAYS, POINTS, POINTS_TEST, meta_train, points, points_learner
from metabench import Examples, Invalid, Protocol, Workload
from metabench.device import Device
from metabench.records.protocol import VariedProtocol
from metabench_plugins.algorithms.protomaml import ProtoMaml


def test_without_a_step_it_is_the_nearest_prototype() -> None:
    learner = points_learner(ProtoMaml(), dtype=torch.float64)
    episodes = points(5, 0, torch.float64)
    scores = learner.predict(learner.adapt(episodes.support, 0), episodes.query.x)
    embed = learner.network.module.features
    for t in range(5):
        features, queries = embed(episodes.support.x[t]), embed(episodes.query.x[t])
        means = torch.stack([features[episodes.support.y[t] == k].mean(0) for k in range(POINT_WAYS)])
        distance = torch.cdist(queries, means).square()
        expected = queries.square().sum(1, keepdim=True) - distance
        assert torch.allclose(scores[t], expected, rtol=1e-12, atol=1e-13)


VARIED = VariedProtocol(POINT_WAYS, 2, 2, least_ways=2, least_shots=2, least_queries=2)


@pytest.mark.parametrize(("train", "test"), [(VARIED, POINTS_TEST), (POINTS_TEST, VARIED)])
@pytest.mark.parametrize("execution", ["compiled", "cuda-graph"])
def test_ways_that_differ_are_run_eagerly_only(execution: str, train: Protocol, test: Protocol) -> None:
    workload = Workload(POINTS, train, test, steps=3, tasks=4)
    with pytest.raises(Invalid, match="execution must be 'eager' where ways differ from task to task"):
        ProtoMaml(execution=execution).build(workload, PLAIN, Device())


def test_a_head_has_the_ways_of_its_task() -> None:
    learner = ProtoMaml().build(Workload(POINTS, VARIED, POINTS_TEST, steps=3, tasks=4), PLAIN, Device())
    support = points(5, 0).support
    of_two = [x[:, support.y[0] < 2] for x in support]

    adapted = learner.adapt(Examples(*of_two))

    assert adapted.weights["prototype.weight"].shape[1] == 2


def test_training_lowers_the_loss_on_queries() -> None:
    learner = points_learner(ProtoMaml(inner_rate=0.05, steps=2))
    before = float(learner.learn(points(64, 999), 0, 1).mean())
    meta_train(learner, points, 150)
    assert float(learner.learn(points(64, 999), 0, 1).mean()) < 0.8 * before
