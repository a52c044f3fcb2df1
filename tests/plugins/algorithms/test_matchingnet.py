"""Matching networks: attention and context by hand, and both variants learn."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.problems import (
    EASY,
    FLOAT64,
    PLAIN,
    TEST,
    Buried,
    accuracy,
    assert_gradient_is,
    build,
    builder_of,
    train,
)
from metabench import Episodes
from metabench_plugins.algorithms.matchingnet import Context, MatchingNet, MatchingNetLearner

learner_of = builder_of(MatchingNetLearner)


def plain_context(context: Context, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """g and f of one task, one query at a time, by the paper's equations."""
    out, _ = context.over_support(support[None])
    d = support.shape[1]
    g = support + out[0, :, :d] + out[0, :, d:]
    embedded = []
    for f_prime in query:
        h_hat, cell = torch.zeros_like(f_prime), torch.zeros(1, 2 * d, dtype=query.dtype)
        for _ in range(context.reads):
            h = h_hat + f_prime
            attention = torch.stack([h @ example for example in g]).softmax(0)
            read = sum(a * example for a, example in zip(attention, g, strict=True))
            state, cell = context.over_query(f_prime[None], (torch.cat([h, read])[None], cell))
            h_hat = state[0, :d]
        embedded.append(h_hat + f_prime)
    return g, torch.stack(embedded)


@pytest.mark.parametrize("context", [False, True], ids=["plain", "in context"])
def test_the_gradient_is_that_of_a_plain_loop_over_tasks(context: bool) -> None:
    learner = learner_of(MatchingNet(statistics="joined", context=context, reads=2, sharpness=4.0))
    features = learner.lifted.module.get_submodule("features")
    batch = Buried(FLOAT64).episodes("train", TEST, range(3), seed=0)

    def task_loss(task: Episodes) -> Tensor:
        s, q = torch.split(features(torch.cat([task.support.x[0], task.query.x[0]])), [10, 15])
        if learner.context is not None:
            s, q = plain_context(learner.context, s, q)
        losses = []
        for query, y in zip(q, task.query.y[0], strict=True):
            attention = (4.0 * F.cosine_similarity(query[None], s)).softmax(0)
            losses.append(-attention[task.support.y[0] == y].sum().log())
        return torch.stack(losses).mean()

    assert_gradient_is(learner, batch, task_loss)


def test_context_depends_on_the_whole_support_set() -> None:
    context = Context(4, reads=2)
    support, query = torch.randn(1, 3, 4), torch.randn(1, 2, 4)
    other = support.clone()
    other[0, 2] += 1.0

    assert not torch.allclose(context.support(support)[0, 0], context.support(other)[0, 0])
    assert not torch.allclose(context.query(query, support), context.query(query, other))


def test_a_class_without_support_gets_a_finite_tiny_probability() -> None:
    learner = learner_of(MatchingNet())
    batch = Buried(FLOAT64).episodes("test", TEST, range(2), seed=0)
    lacking = batch.support._replace(y=batch.support.y.clamp(max=3))

    with torch.no_grad():
        scores = learner.predict(learner.adapt(lacking), batch.query.x)

    assert bool(scores.isfinite().all())
    assert bool((scores[:, :, 4] < -100).all())
    torch.testing.assert_close(scores.exp().sum(2), torch.ones(2, 15, dtype=torch.float64))


def test_votes_below_the_least_float_differ_and_have_a_gradient() -> None:
    learner = build(MatchingNet(sharpness=200.0), PLAIN, TEST)
    features = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [-1.0, 0.1]]], requires_grad=True)
    assert isinstance(learner, MatchingNetLearner)

    scores = learner.score(learner.fit(features, torch.arange(4)[None], 4), features[:, :1])

    expected = (200 * F.cosine_similarity(features[:, :1], features, dim=2)).log_softmax(1)
    torch.testing.assert_close(scores[0], expected)
    assert scores[0, 0, 1] < scores[0, 0, 3] < -300  # exp of either is 0 in float32
    (gradient,) = torch.autograd.grad(scores[0, 0, 3], features)
    assert float(gradient[0, 3].abs().max()) > 1


@pytest.mark.parametrize("context", [False, True], ids=["plain", "in context"])
def test_it_learns(context: bool) -> None:
    algorithm = MatchingNet(context=context, reads=2, rate=3e-3)
    source = Buried(FLOAT64)
    learner = build(algorithm, PLAIN, EASY, device=FLOAT64)
    untrained = accuracy(learner, source, EASY)

    train(learner, algorithm, source, EASY, steps=150)

    assert untrained < 0.5
    assert accuracy(learner, source, EASY) > 0.75
