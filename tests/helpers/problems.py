"""Small workloads for the tests of single algorithms: sinusoids, and blobs of points as classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metabench import Algorithm, Episodes, Examples, Facts, Network, Protocol, Workload
from metabench.device import Device
from metabench_plugins.networks.mlp import Mlp

WAYS, SHOTS, WIDTH = 3, 2, 4


def sinusoids(tasks: int, seed: int) -> Episodes:
    """Amplitude 0.1 to 5, phase 0 to π, 10 support and 10 query points in −5..5."""
    chance = torch.Generator().manual_seed(seed)
    amplitude = torch.rand(tasks, 1, 1, generator=chance) * 4.9 + 0.1
    phase = torch.rand(tasks, 1, 1, generator=chance) * torch.pi
    x = torch.rand(tasks, 20, 1, generator=chance) * 10 - 5
    y = amplitude * torch.sin(x - phase)
    return Episodes(
        Examples(x[:, :10], y[:, :10]),
        Examples(x[:, 10:], y[:, 10:]),
        torch.zeros(tasks, 0),
        torch.arange(tasks),
    )


def blobs(tasks: int, seed: int, dtype: torch.dtype = torch.float32) -> Episodes:
    """Classes are points with noise around them."""
    chance = torch.Generator().manual_seed(seed)
    y = torch.arange(WAYS).repeat(SHOTS).expand(tasks, -1)
    means = torch.randn(tasks, WAYS, WIDTH, generator=chance)[:, y[0]]
    support, query = (
        Examples((means + 0.3 * torch.randn(means.shape, generator=chance)).to(dtype), y) for _ in range(2)
    )
    return Episodes(support, query, torch.zeros(tasks, WAYS), torch.arange(tasks))


def built(
    algorithm: Algorithm,
    kind: str = "classification",
    network: Network | None = None,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """The learner for `blobs` or, for regression, `sinusoids`."""
    regression = kind == "regression"
    facts = Facts("regression", (1,), 1) if regression else Facts("classification", (WIDTH,))
    protocol = Protocol(1, 10, 10) if regression else Protocol(WAYS, SHOTS, SHOTS)
    torch.manual_seed(0)
    return algorithm.build(
        Workload(facts, protocol, protocol, 100, 16), network or Mlp(), Device(dtype=dtype)
    )


def trained(learner: Any, steps: int, tasks: int = 16, kind: str = "regression") -> Any:
    """The learner after so many meta-steps."""
    for step in range(steps):
        learner.learn(sinusoids(tasks, step) if kind == "regression" else blobs(tasks, step), step, steps)
        learner.update(step, steps)
    return learner


def query_error(learner: Any, steps: int | None = None) -> float:
    """Mean squared error on 200 sinusoids that no training step has seen, after so many inner steps."""
    episodes = sinusoids(200, seed=10**6)
    with torch.no_grad():
        found: Tensor = learner.predict(learner.adapt(episodes.support, steps), episodes.query.x)
    return float((found - episodes.query.y).square().mean())
