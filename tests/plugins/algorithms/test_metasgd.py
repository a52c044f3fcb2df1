"""Meta-SGD."""

from __future__ import annotations

import torch

from helpers.problems import meta_train, points, points_learner, query_error, sinusoids, sinusoids_learner
from metabench_plugins.algorithms.maml import Maml
from metabench_plugins.algorithms.metasgd import MetaSgd


def test_before_training_it_adapts_as_maml_does() -> None:
    support = points(4, 0, torch.float64).support
    adapted, by_maml = (
        points_learner(cls(inner_rate=0.1, steps=3), dtype=torch.float64).adapt(support).weights
        for cls in (MetaSgd, Maml)
    )
    assert all(torch.allclose(adapted[n], by_maml[n], rtol=1e-12, atol=1e-14) for n in by_maml)


def test_each_weight_learns_a_rate_of_its_own() -> None:
    learner = sinusoids_learner(MetaSgd(inner_rate=0.01))
    floor = query_error(learner)
    meta_train(learner, sinusoids, 400)
    assert query_error(learner) < 0.6 * floor
    assert [r.shape for r in learner.rates] == [w.shape for w in learner.network.module.parameters()]
    assert all(float(r.detach().std()) > 1e-4 for r in learner.rates if r.numel() > 1)
