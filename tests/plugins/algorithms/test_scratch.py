"""Scratch: Adam per task from one seeded start, for both kinds of task."""

import copy

import pytest
import torch
from torch.nn import functional as F

from helpers.problems import (
    CONV,
    FLOAT64,
    NORMED,
    PLAIN,
    TEST,
    Buried,
    build,
    squared_error,
)
from metabench import Protocol
from metabench_plugins.algorithms.scratch import Scratch, ScratchLearner
from metabench_plugins.datasets.sinusoid import Sinusoid
from metabench_plugins.networks.mlp import Mlp


@pytest.mark.parametrize("network", [CONV, NORMED, PLAIN], ids=["conv4", "normed-mlp", "mlp"])
def test_each_task_is_trained_as_by_torch_s_own_adam(network: object) -> None:
    learner = build(Scratch(steps=4, inner_rate=0.1), network, TEST, device=FLOAT64)  # type: ignore[arg-type]
    assert isinstance(learner, ScratchLearner)
    batch = Buried(FLOAT64).episodes("test", TEST, range(3), seed=0)

    with torch.no_grad():
        scores = learner.predict(learner.adapt(batch.support), batch.query.x)

    for task in range(3):
        module = copy.deepcopy(learner.lifted.module)
        optimizer = torch.optim.Adam(module.parameters(), 0.1)
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(module(batch.support.x[task]), batch.support.y[task]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        expected = module(batch.query.x[task]).detach()
        torch.testing.assert_close(
            scores[task], expected, rtol=1e-6, atol=1e-6
        )  # of round-off, through 4 steps of Adam


def test_the_start_is_that_of_the_seed() -> None:
    batch = Buried(FLOAT64).episodes("test", TEST, range(2), seed=0)

    def predicted(seed: int) -> torch.Tensor:
        learner = build(Scratch(), PLAIN, TEST, device=FLOAT64, seed=seed)
        return learner.predict(learner.adapt(batch.support), batch.query.x)

    assert torch.equal(predicted(3), predicted(3))
    assert not torch.equal(predicted(3), predicted(4))


def test_its_steps_fit_a_regression() -> None:
    test = Protocol(1, 10, 10)
    sinusoid = Sinusoid()
    source = sinusoid.load(FLOAT64)
    untouched, trained = (
        build(Scratch(steps=steps), Mlp(), test, facts=sinusoid.describe(), device=FLOAT64)
        for steps in (0, 200)
    )

    assert squared_error(trained, source, test) < 0.8 * squared_error(untouched, source, test)
