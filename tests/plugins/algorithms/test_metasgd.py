"""Meta-SGD."""

from __future__ import annotations

import torch

from helpers.problems import blobs, built, query_error, trained
from metabench_plugins.algorithms.maml import Maml
from metabench_plugins.algorithms.metasgd import MetaSgd


def test_before_training_it_adapts_as_maml_does() -> None:
    support = blobs(4, 0, torch.float64).support
    found, wanted = (
        built(one(inner_rate=0.1, steps=3), dtype=torch.float64).adapt(support).weights
        for one in (MetaSgd, Maml)
    )
    assert all(torch.allclose(found[n], wanted[n], rtol=1e-12, atol=1e-14) for n in wanted)


def test_each_weight_learns_a_rate_of_its_own() -> None:
    learner = built(MetaSgd(inner_rate=0.01), "regression")
    floor = query_error(learner)
    trained(learner, 400)
    assert query_error(learner) < 0.6 * floor
    assert [r.shape for r in learner.rates] == [w.shape for w in learner.network.module.parameters()]
    assert all(float(r.detach().std()) > 1e-4 for r in learner.rates if r.numel() > 1)
