"""SimpleShot: supervised gradients, features centred on meta-train, nearest class mean by hand."""

import pytest
import torch
from torch.nn import functional as F

from helpers.problems import (
    EASY,
    FACTS,
    FLOAT64,
    NORMED,
    TEST,
    Buried,
    accuracy,
    build,
    builder_of,
    micro_batches,
    train,
)
from metabench import Batches, Facts, Invalid
from metabench_plugins.algorithms.simpleshot import SimpleShot, SimpleShotLearner

learner_of = builder_of(SimpleShotLearner)


def test_it_trains_on_labelled_examples_of_all_classes() -> None:
    learner = learner_of(SimpleShot(statistics="queries"))
    batch = Buried(FLOAT64).batch(Batches(48, 16), range(3), seed=0)
    features = learner.lifted.module.get_submodule("features")
    parameters = list(learner.parameters())

    losses = learner.learn(batch, 0, 1)

    plain = torch.stack([
        F.cross_entropy(learner.classifier(features(x)), y) for x, y in zip(batch.x, batch.y, strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(losses, plain.detach(), rtol=0, atol=1e-12)
    for parameter, gradient in zip(parameters, torch.autograd.grad(plain.mean(), parameters), strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-12)


def test_it_predicts_the_nearest_mean_of_centred_unit_features() -> None:
    learner = learner_of(SimpleShot(statistics="queries"))
    source = Buried(FLOAT64)
    learner.finish(micro_batches(source))
    batch = source.episodes("test", TEST, range(2), seed=0)
    features = learner.lifted.module.get_submodule("features")

    with torch.no_grad():
        scores = learner.predict(learner.adapt(batch.support), batch.query.x)
        for task in range(2):
            s, q = (
                F.normalize(features(x) - learner.centre)
                for x in (batch.support.x[task], batch.query.x[task])
            )
            means = torch.stack([s[batch.support.y[task] == k].mean(0) for k in range(5)])
            torch.testing.assert_close(scores[task], -(torch.cdist(q, means) ** 2))


def test_the_centre_is_the_mean_feature_of_meta_train() -> None:
    learner = learner_of(SimpleShot(centre_batches=3, statistics="queries"))
    source = Buried(FLOAT64)
    features = learner.lifted.module.get_submodule("features")
    assert not learner.centre.any()

    learner.finish(micro_batches(source))

    batches = micro_batches(source)
    with torch.no_grad():
        expected = torch.cat([features(next(batches).x) for _ in range(3)]).mean(0)
    torch.testing.assert_close(learner.centre, expected)
    assert "computed.centre" in learner.state_dict()


def test_transforms_differ() -> None:
    source = Buried(FLOAT64)
    batch = source.episodes("test", TEST, range(2), seed=0)
    predictions = []
    for transform in ("UN", "L2N", "CL2N"):
        learner = learner_of(SimpleShot(transform=transform))
        learner.finish(micro_batches(source))
        with torch.no_grad():
            predictions.append(learner.predict(learner.adapt(batch.support), batch.query.x))

    assert not torch.allclose(predictions[0], predictions[1])
    assert not torch.allclose(predictions[1], predictions[2])


def test_endlessly_many_classes_are_refused_with_the_reason() -> None:
    endless = Facts("classification", FACTS.input_shape, classes={"train": 0})

    with pytest.raises(Invalid, match="this data set has endlessly many; it needs a finite number"):
        build(SimpleShot(), NORMED, TEST, facts=endless)


def test_it_learns() -> None:
    algorithm = SimpleShot(micro=32)
    source = Buried(FLOAT64)
    learner = learner_of(algorithm, EASY)
    untrained = accuracy(learner, source, EASY)

    losses = train(learner, algorithm, source, EASY, steps=200)

    assert losses[-1] < 0.4 * losses[0]
    assert untrained < 0.5
    assert accuracy(learner, source, EASY) > 0.65
