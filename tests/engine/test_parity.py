"""The engine's meta-gradients equal those of a plain loop over tasks, to 1e-9 of the largest element."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.meta_gradients import (
    ALGORITHMS,
    NETWORKS,
    RATE,
    TASKS,
    TOLERANCE,
    episodes_of,
    gradients_of,
    kind_of,
    learner_of,
    reference,
    relative_error,
)

ALL_WEIGHTS = ("maml", "metasgd", "maml++", "reptile", "metalstm")
"""Algorithms that change every weight: kernels take their steps, or their loss, for an mlp."""


@pytest.fixture(params=["1", "0"], ids=["kernels", "torch"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a test with the CPU kernels and without them; return whether with them."""
    monkeypatch.setenv("METABENCH_KERNELS", request.param)
    return bool(request.param == "1")


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_meta_gradient_equals_the_plain_loop_whole_and_in_chunks(
    name: str, network: str, steps: int, kernels: bool
) -> None:
    kind = kind_of(name, network)
    episodes = episodes_of(kind, NETWORKS[network][1])
    whole: dict[str, Any] = {"mini_batch": 0} if name == "reptile" else {}
    algorithm = ALGORITHMS[name](inner_rate=RATE, steps=steps, **whole)
    learner = learner_of(algorithm, network, kind)
    expected = reference(learner, algorithm, episodes)
    for chunk in (TASKS, 2):
        learner.chunk = chunk
        learner.learn(episodes, 0, 10)
        by_kernels = kernels and (network != "mlp" or name in ALL_WEIGHTS)
        assert learner.path == ("batched, kernels" if by_kernels else "batched")
        assert relative_error(gradients_of(learner), expected) < TOLERANCE


@pytest.mark.parametrize("name", ["maml", "metasgd", "maml++", "imaml"])
def test_queries_alone_have_the_meta_gradient_of_the_plain_loop(name: str, kernels: bool) -> None:
    algorithm = ALGORITHMS[name](inner_rate=RATE, steps=2, statistics="support", train_statistics="support")
    learner = learner_of(algorithm, "conv4", "classification")
    episodes = episodes_of("classification", NETWORKS["conv4"][1])
    learner.learn(episodes, 0, 10)
    assert relative_error(gradients_of(learner), reference(learner, algorithm, episodes)) < TOLERANCE
