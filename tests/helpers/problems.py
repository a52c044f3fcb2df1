"""Small problems for tests of learners: sinusoids, lines, points, classes in noise; how to train on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from metabench import (
    Algorithm,
    Batches,
    Episodes,
    Examples,
    Facts,
    Learner,
    Network,
    Protocol,
    Source,
    Split,
    Workload,
)
from metabench.device import Device
from metabench.learning import some_tasks
from metabench_plugins.networks.conv4 import Conv4
from metabench_plugins.networks.mlp import Mlp

CONV = Conv4(width=4)
NORMED = Mlp(hidden=(32, 16), batch_norm=True)
PLAIN = Mlp(hidden=(32, 16))
FLOAT64 = Device(dtype=torch.float64)
L = TypeVar("L", bound=Learner)

POINT_WAYS, POINT_WIDTH = 3, 4
POINTS = Facts("classification", (POINT_WIDTH,))
POINTS_TEST = Protocol(POINT_WAYS, 2, 2)
CURVES = Facts("regression", (1,), outputs=1)
CURVES_TEST = Protocol(1, 10, 10)

SIDE = 8
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
FACTS = Facts(
    "classification",
    (1, SIDE, SIDE),
    classes={"train": 40, "validation": 20, "test": 20},
    images=dict.fromkeys(SPLITS, 0),
)
"""Of `Buried`."""
TEST = Protocol(5, 2, 3)
EASY = Protocol(5, 1, 5)


def sinusoids(tasks: int, seed: int) -> Episodes:
    """Tasks of amplitude 0.1 to 5 and phase 0 to π, with 10 support and 10 query points in −5..5."""
    generator = torch.Generator().manual_seed(seed)
    amplitude = torch.rand(tasks, 1, 1, generator=generator) * 4.9 + 0.1
    phase = torch.rand(tasks, 1, 1, generator=generator) * torch.pi
    x = torch.rand(tasks, 20, 1, generator=generator) * 10 - 5
    y = amplitude * torch.sin(x - phase)
    return Episodes(
        Examples(x[:, :10], y[:, :10]),
        Examples(x[:, 10:], y[:, 10:]),
        torch.zeros(tasks, 0),
        torch.arange(tasks),
    )


def points(tasks: int, seed: int, dtype: torch.dtype = torch.float32) -> Episodes:
    """Tasks whose classes are points in 4 dimensions with noise around them, for `POINTS_TEST`."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(POINT_WAYS).repeat(POINTS_TEST.shots).expand(tasks, -1)
    means = torch.randn(tasks, POINT_WAYS, POINT_WIDTH, generator=generator)[:, y[0]]
    support, query = (
        Examples((means + 0.3 * torch.randn(means.shape, generator=generator)).to(dtype), y) for _ in range(2)
    )
    return Episodes(support, query, torch.zeros(tasks, POINT_WAYS), torch.arange(tasks))


class Buried(Source):
    """Classes that differ along 6 of 64 directions, while the other directions are loud noise.

    Raw distances drown in the noise; a linear map that drops it solves the problem. Train and test
    classes differ.
    """

    def __init__(self, device: Device) -> None:
        generator = torch.Generator().manual_seed(1)
        size = SIDE * SIDE
        mixing, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
        codes = torch.randn(3, 40, 6, generator=generator, dtype=torch.float64)
        self.mixing, self.codes = mixing, dict(zip(SPLITS, codes, strict=True))
        self.device = device

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        tasks = [self._task(split, protocol, index, seed) for index in indices]
        parts = [torch.stack(part) for part in zip(*tasks, strict=True)]
        support_x, query_x, support_y, query_y, classes = parts
        numbers = torch.tensor(list(indices))
        return Episodes(Examples(support_x, support_y), Examples(query_x, query_y), classes, numbers)

    def batch(self, batches: Batches, indices: Sequence[int], seed: int) -> Examples:
        generators = [torch.Generator().manual_seed(10**6 * (seed + 1) + index) for index in indices]
        y = torch.stack([torch.randint(40, (batches.micro,), generator=g) for g in generators])
        x = [self._inputs(self.codes["train"][labels], g) for labels, g in zip(y, generators, strict=True)]
        return Examples(torch.stack(x), y)

    def manifest(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> dict[str, Any]:
        raise NotImplementedError("learners read no manifest")

    def _task(self, split: Split, protocol: Protocol, index: int, seed: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(1000 * seed + index)
        classes = torch.randperm(len(self.codes[split]), generator=generator)[: protocol.ways]
        y = [torch.arange(protocol.ways).repeat(n) for n in (protocol.shots, protocol.queries)]
        x = [self._inputs(self.codes[split][classes[labels]], generator) for labels in y]
        return *x, *y, classes

    def _inputs(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """[n, 1, side, side] for the codes [n, 6] of n examples."""
        near = codes + 0.1 * torch.randn(codes.shape, generator=generator, dtype=torch.float64)
        noise = torch.randn(len(codes), SIDE * SIDE - 6, generator=generator, dtype=torch.float64)
        x: Tensor = torch.cat([near, noise], 1) @ self.mixing
        return x.view(-1, 1, SIDE, SIDE).to(self.device.torch, self.device.dtype)


class Lines(Source):
    """Regression tasks y = a x + b of 5 support and 10 query points; each task has a and b of its own."""

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        generators = [torch.Generator().manual_seed(10**5 * seed + index) for index in indices]
        line = torch.stack([torch.randn(2, 1, 1, generator=g, dtype=torch.float64) for g in generators])
        x = torch.stack([torch.randn(15, 1, generator=g, dtype=torch.float64) for g in generators])
        y = line[:, 0] * x + line[:, 1]
        return Episodes(
            Examples(x[:, :5], y[:, :5]),
            Examples(x[:, 5:], y[:, 5:]),
            torch.zeros(len(x), 0, dtype=torch.long),
            torch.tensor(list(indices)),
        )

    def manifest(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> dict[str, Any]:
        raise NotImplementedError("learners read no manifest")


def build(
    algorithm: Algorithm,
    network: Network | None,
    test: Protocol,
    *,
    facts: Facts = FACTS,
    device: Device | None = None,
    steps: int = 100,
    seed: int = 0,
) -> Learner:
    """The algorithm's learner for a data set of these facts, in float32 unless the device says otherwise."""
    workload = Workload(facts, algorithm.train_protocol(test), test, steps=steps, tasks=8, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return algorithm.build(workload, network, device or Device())


def builder_of(cls: type[L]) -> Callable[..., L]:
    """A function that builds this learner for `Buried`, with batch norm, in float64."""

    def learner_of(algorithm: Algorithm, test: Protocol = TEST) -> L:
        learner = build(algorithm, NORMED, test, device=FLOAT64)
        assert isinstance(learner, cls)
        return learner

    return learner_of


def points_learner(
    algorithm: Algorithm, network: Network | None = None, dtype: torch.dtype = torch.float32
) -> Any:
    """The learner for `points`."""
    return build(algorithm, network or Mlp(), POINTS_TEST, facts=POINTS, device=Device(dtype=dtype))


def sinusoids_learner(algorithm: Algorithm) -> Any:
    """The learner for `sinusoids`."""
    return build(algorithm, Mlp(), CURVES_TEST, facts=CURVES)


def meta_train(learner: Any, tasks: Callable[[int, int], Episodes], steps: int) -> None:
    """Take so many meta-steps, on 16 tasks each, of `sinusoids` or `points`."""
    for step in range(steps):
        learner.learn(tasks(16, step), step, steps)
        learner.update(step, steps)


def query_error(learner: Any, steps: int | None = None) -> float:
    """Mean squared error on 200 sinusoids that no training step has seen, after so many inner steps."""
    episodes = sinusoids(200, seed=10**6)
    with torch.no_grad():
        prediction: Tensor = learner.predict(learner.adapt(episodes.support, steps), episodes.query.x)
    return float((prediction - episodes.query.y).square().mean())


def train(
    learner: Learner, algorithm: Algorithm, source: Source, test: Protocol, steps: int, tasks: int = 8
) -> list[float]:
    """Train as the harness does, and finish; return the mean loss of each step."""
    protocol = algorithm.train_protocol(test)
    losses = []
    for step in range(steps):
        batch: Episodes | Examples
        if isinstance(protocol, Batches):
            batch = source.batch(protocol, range(2 * step, 2 * step + 2), seed=0)
        else:
            assert protocol is not None, "there is nothing to train"
            batch = source.episodes("train", protocol, range(tasks * step, tasks * (step + 1)), seed=0)
        losses.append(learner.learn(batch, step, steps).mean().item())
        learner.update(step, steps)
    learner.finish(micro_batches(source))
    return losses


def micro_batches(source: Source) -> Iterator[Examples]:
    """Endless micro-batches of meta-train, or none where the source has no labelled batches."""
    if isinstance(source, Buried):
        number = 0
        while True:
            batch = source.batch(Batches(32, 32), [number], seed=9)
            yield Examples(batch.x[0], batch.y[0])
            number += 1


def accuracy(learner: Learner, source: Source, test: Protocol, tasks: int = 60) -> float:
    """The mean accuracy over test tasks."""
    with torch.no_grad():
        batch = source.episodes("test", test, range(tasks), seed=2026)
        prediction = learner.predict(learner.adapt(batch.support), batch.query.x)
    return float((prediction.argmax(2) == batch.query.y).double().mean())


def squared_error(learner: Learner, source: Source, test: Protocol, tasks: int = 60) -> float:
    """The mean squared error over test tasks."""
    with torch.no_grad():
        batch = source.episodes("test", test, range(tasks), seed=2026)
        prediction = learner.predict(learner.adapt(batch.support), batch.query.x)
    return float((prediction - batch.query.y).square().mean())


def assert_gradient_is(
    learner: Learner, batch: Episodes, task_loss: Callable[[Episodes], Tensor], tolerance: float = 1e-9
) -> None:
    """The meta-gradient is that of a plain loop over tasks; task_loss: one task (T = 1) → scalar."""
    parameters = list(learner.parameters())
    tasks = [some_tasks(batch, slice(t, t + 1)) for t in range(len(batch.index))]
    plain = torch.stack([task_loss(task) for task in tasks])
    gradients = torch.autograd.grad(plain.mean(), parameters, allow_unused=True)
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 7.0)  # stale: it must be overwritten
    losses = learner.learn(batch, 0, 1)
    torch.testing.assert_close(losses, plain.detach(), rtol=0, atol=tolerance)
    largest = max(float(gradient.abs().max()) for gradient in gradients if gradient is not None)
    assert largest > 1e-4, "a gradient of zero would prove nothing"
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert parameter.grad is not None
        expected = torch.zeros_like(parameter) if gradient is None else gradient
        assert float((parameter.grad - expected).abs().max()) <= tolerance * largest
