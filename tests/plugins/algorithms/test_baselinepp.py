"""Baseline++: cosine heads, the same start for every task, learning, and the claims about queries."""

import pytest
import torch
from torch.nn import functional as F

from helpers.hidden_signal import (
    FLOAT64,
    TEST,
    Buried,
    assert_adapting_changes_nothing,
    assert_restores,
    assert_shards_add_up,
    assert_transduction_is_as_claimed,
    builder_of,
)
from metabench import Batches
from metabench_plugins.algorithms.baselinepp import BaselinePlusPlus, BaselinePlusPlusLearner, CosineHead

learner_of = builder_of(BaselinePlusPlusLearner)


def test_a_cosine_head_scores_directions_only() -> None:
    torch.manual_seed(0)
    head, x = CosineHead(6, 3, scale=10.0).double(), torch.randn(4, 6, dtype=torch.float64)

    scores = head(x)

    wanted = 10 * F.cosine_similarity(x[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(scores, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(head(7 * x), scores, rtol=1e-12, atol=1e-12)


def test_the_heads_descend_the_support_loss_of_each_task() -> None:
    learner = learner_of(BaselinePlusPlus(head_rate=0.5, head_decay=0.0))
    batch = Buried(FLOAT64).episodes("test", TEST, range(3), seed=0)
    features = learner.lifted.module.get_submodule("features")

    with torch.no_grad():
        state = learner.adapt(batch.support, 1)

    for task in range(3):
        weight = learner.start.clone().requires_grad_()
        with torch.no_grad():
            s = features(batch.support.x[task])
        scores = 10 * F.cosine_similarity(s[:, None], weight[None], dim=2)
        (slope,) = torch.autograd.grad(F.cross_entropy(scores, batch.support.y[task]), weight)
        torch.testing.assert_close(state.fitted[task], (weight - 0.5 * slope).detach())


def test_a_task_s_answer_does_not_depend_on_the_others_of_its_batch() -> None:
    learner = learner_of(BaselinePlusPlus())
    batch = Buried(FLOAT64).episodes("test", TEST, range(4), seed=0)

    with torch.no_grad():
        together = learner.predict(learner.adapt(batch.support), batch.query.x)
        support = batch.support._replace(x=batch.support.x[2:3], y=batch.support.y[2:3])
        alone = learner.predict(learner.adapt(support), batch.query.x[2:3])

    torch.testing.assert_close(together[2:3], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("queries", ["together", "alone"])
def test_the_claims_about_queries_hold(queries: str) -> None:
    learner = learner_of(BaselinePlusPlus(queries=queries))
    batch = Buried(FLOAT64).episodes("test", TEST, range(3), seed=0)

    assert_transduction_is_as_claimed(learner, batch)
    assert_adapting_changes_nothing(learner, batch)


def test_any_number_of_ranks_computes_the_same() -> None:
    batch = Buried(FLOAT64).batch(Batches(96, 16), range(6), seed=0)

    assert_shards_add_up(learner_of(BaselinePlusPlus()), batch)


def test_training_goes_on_from_a_saved_state_as_before() -> None:
    assert_restores(learner_of(BaselinePlusPlus()), Buried(FLOAT64).batch(Batches(32, 16), range(2), seed=0))
