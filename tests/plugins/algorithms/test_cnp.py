"""Conditional neural processes: gradients by hand for both kinds of task, and learning."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.problems import (
    CURVES,
    CURVES_TEST,
    FACTS,
    FLOAT64,
    NORMED,
    PLAIN,
    TEST,
    Buried,
    Lines,
    accuracy,
    assert_gradient_is,
    build,
    squared_error,
    train,
)
from metabench import Algorithm, Episodes, Invalid, Protocol, Workload
from metabench.device import Device
from metabench_plugins.algorithms.cnp import Cnp, CnpLearner
from metabench_plugins.datasets.sinusoid import Sinusoid
from metabench_plugins.networks.mlp import Mlp


def classifier(algorithm: Algorithm, test: Protocol = TEST) -> CnpLearner:
    learner = build(algorithm, NORMED, test, device=FLOAT64)
    assert isinstance(learner, CnpLearner)
    return learner


def regressor(algorithm: Algorithm) -> CnpLearner:
    learner = build(algorithm, Mlp(), CURVES_TEST, facts=CURVES, device=FLOAT64)
    assert isinstance(learner, CnpLearner)
    return learner


def test_the_gradient_of_a_regression_is_that_of_a_plain_loop_over_tasks() -> None:
    learner = regressor(Cnp(width=8))
    features = learner.lifted.module.get_submodule("features")
    batch = Sinusoid().load(FLOAT64).episodes("train", CURVES_TEST, range(4), seed=0)

    def task_loss(task: Episodes) -> Tensor:
        pairs = zip(features(task.support.x[0]), task.support.y[0], strict=True)
        summary = torch.stack([learner.encoder(torch.cat([x, y])) for x, y in pairs]).mean(0)
        losses = []
        for part in (task.support, task.query):
            for x, y in zip(features(part.x[0]), part.y[0], strict=True):
                mean, raw = learner.decoder(torch.cat([x, summary]))
                sigma = 0.1 + 0.9 * F.softplus(raw)
                losses.append(0.5 * math.log(2 * math.pi) + sigma.log() + ((y - mean) / sigma) ** 2 / 2)
        return torch.stack(losses).mean()

    assert_gradient_is(learner, batch, task_loss)


def test_the_gradient_of_a_classification_is_that_of_a_plain_loop_over_tasks() -> None:
    learner = classifier(Cnp(width=8, statistics="joined", train_statistics="joined"))
    features = learner.lifted.module.get_submodule("features")
    batch = Buried(FLOAT64).episodes("train", TEST, range(4), seed=0)

    def task_loss(task: Episodes) -> Tensor:
        embedded = features(torch.cat([task.support.x[0], task.query.x[0]]))
        encoded = learner.encoder(embedded[:10])
        summary = torch.cat([encoded[task.support.y[0] == k].mean(0) for k in range(5)])
        scores = torch.stack([learner.decoder(torch.cat([x, summary])) for x in embedded])
        return F.cross_entropy(scores, torch.cat([task.support.y[0], task.query.y[0]]))

    assert_gradient_is(learner, batch, task_loss)


def test_the_order_of_the_support_set_does_not_matter() -> None:
    learner = regressor(Cnp())
    batch = Sinusoid().load(FLOAT64).episodes("test", CURVES_TEST, range(3), seed=0)
    turned = batch.support._replace(x=batch.support.x.flip(1), y=batch.support.y.flip(1))

    with torch.no_grad():
        predicted, other = (
            learner.predict(learner.adapt(support), batch.query.x) for support in (batch.support, turned)
        )

    torch.testing.assert_close(predicted, other, rtol=1e-12, atol=1e-12)


def test_training_ways_must_be_those_of_the_test() -> None:
    workload = Workload(FACTS, Protocol(7, 1, 1), Protocol(5, 1, 1))

    with pytest.raises(Invalid, match="training with 7 ways does not fit a test with 5; give both"):
        Cnp().build(workload, PLAIN, Device())


def test_it_learns_to_classify() -> None:
    algorithm = Cnp(width=64, rate=3e-3)
    source = Buried(FLOAT64)
    test = Protocol(2, 1, 5)
    learner = build(algorithm, PLAIN, test, device=FLOAT64)
    untrained = accuracy(learner, source, test)

    train(learner, algorithm, source, test, steps=300)

    assert untrained < 0.6
    assert accuracy(learner, source, test) > 0.8


def test_it_learns_lines() -> None:
    algorithm = Cnp()
    source = Lines()
    test = Protocol(1, 5, 10)
    learner = build(algorithm, Mlp(hidden=(16,)), test, facts=CURVES, device=FLOAT64)
    untrained = squared_error(learner, source, test)

    train(learner, algorithm, source, test, steps=300)

    assert squared_error(learner, source, test) < 0.5 * untrained
