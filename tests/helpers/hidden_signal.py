"""What the tests of learners share: an easy problem that raw inputs do not solve, and checks of learners."""

from __future__ import annotations

import copy
import dataclasses
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

SIDE = 8
FACTS = Facts(
    "classification",
    (1, SIDE, SIDE),
    classes={"train": 40, "validation": 20, "test": 20},
    images=dict.fromkeys(("train", "validation", "test"), 0),
)
LINES = Facts("regression", (1,), outputs=1)
CONV = Conv4(width=4)
NORMED = Mlp(hidden=(32, 16), batch_norm=True)
PLAIN = Mlp(hidden=(32, 16))
FLOAT64 = Device(dtype=torch.float64)
TEST = Protocol(5, 2, 3)
EASY = Protocol(5, 1, 5)
L = TypeVar("L", bound=Learner)


class Buried(Source):
    """Classes that differ along 6 of 64 directions, while the other directions are loud noise.

    Raw distances drown in the noise; a linear map that drops it solves the problem. Train and test
    classes differ.
    """

    def __init__(self, device: Device) -> None:
        drawn = torch.Generator().manual_seed(1)
        size = SIDE * SIDE
        mixing, _ = torch.linalg.qr(torch.randn(size, size, generator=drawn, dtype=torch.float64))
        codes = torch.randn(3, 40, 6, generator=drawn, dtype=torch.float64)
        self.mixing, self.codes = mixing, dict(zip(("train", "validation", "test"), codes, strict=True))
        self.device = device

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        tasks = [self._task(split, protocol, index, seed) for index in indices]
        stacked = [torch.stack(each) for each in zip(*tasks, strict=True)]
        support_x, query_x, support_y, query_y, classes = stacked
        numbers = torch.tensor(list(indices))
        return Episodes(Examples(support_x, support_y), Examples(query_x, query_y), classes, numbers)

    def batch(self, batches: Batches, indices: Sequence[int], seed: int) -> Examples:
        drawn = [torch.Generator().manual_seed(10**6 * (seed + 1) + index) for index in indices]
        y = torch.stack([torch.randint(40, (batches.micro,), generator=each) for each in drawn])
        x = [self._drawn(self.codes["train"][of], each) for of, each in zip(y, drawn, strict=True)]
        return Examples(torch.stack(x), y)

    def manifest(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> dict[str, Any]:
        raise NotImplementedError("the loop is not under test here")

    def _task(self, split: Split, protocol: Protocol, index: int, seed: int) -> tuple[Tensor, ...]:
        drawn = torch.Generator().manual_seed(1000 * seed + index)
        classes = torch.randperm(len(self.codes[split]), generator=drawn)[: protocol.ways]
        y = [torch.arange(protocol.ways).repeat(n) for n in (protocol.shots, protocol.queries)]
        x = [self._drawn(self.codes[split][classes[each]], drawn) for each in y]
        return *x, *y, classes

    def _drawn(self, codes: Tensor, drawn: torch.Generator) -> Tensor:
        """[n, 1, side, side] for the codes [n, 6] of n examples."""
        near = codes + 0.1 * torch.randn(codes.shape, generator=drawn, dtype=torch.float64)
        noise = torch.randn(len(codes), SIDE * SIDE - 6, generator=drawn, dtype=torch.float64)
        x: Tensor = torch.cat([near, noise], 1) @ self.mixing
        return x.view(-1, 1, SIDE, SIDE).to(self.device.torch, self.device.dtype)


class Lines(Source):
    """Regression tasks y = a x + b; each task has a and b of its own."""

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        drawn = [torch.Generator().manual_seed(10**5 * seed + index) for index in indices]
        line = torch.stack([torch.randn(2, 1, 1, generator=each, dtype=torch.float64) for each in drawn])
        x = torch.stack([torch.randn(15, 1, generator=each, dtype=torch.float64) for each in drawn])
        y = line[:, 0] * x + line[:, 1]
        return Episodes(
            Examples(x[:, :5], y[:, :5]),
            Examples(x[:, 5:], y[:, 5:]),
            torch.zeros(len(drawn), 0, dtype=torch.long),
            torch.tensor(list(indices)),
        )

    def manifest(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> dict[str, Any]:
        raise NotImplementedError("the loop is not under test here")


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
    """How the tests of this learner make one: `learner_of(algorithm, test=TEST)`, in float64."""

    def learner_of(algorithm: Algorithm, test: Protocol = TEST) -> L:
        learner = build(algorithm, NORMED, test, device=FLOAT64)
        assert isinstance(learner, cls)
        return learner

    return learner_of


def train(
    learner: Learner, algorithm: Algorithm, source: Source, test: Protocol, steps: int, tasks: int = 8
) -> list[float]:
    """Trains as the harness does and finishes; returns the mean loss of each step."""
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
            one = source.batch(Batches(32, 32), [number], seed=9)
            yield Examples(one.x[0], one.y[0])
            number += 1


def accuracy(learner: Learner, source: Source, test: Protocol, tasks: int = 60) -> float:
    """The mean accuracy over test tasks."""
    with torch.no_grad():
        batch = source.episodes("test", test, range(tasks), seed=2026)
        prediction = learner.predict(learner.adapt(batch.support), batch.query.x)
    return float((prediction.argmax(2) == batch.query.y).double().mean())


def error(learner: Learner, source: Source, test: Protocol, tasks: int = 60) -> float:
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
    wanted = torch.autograd.grad(plain.mean(), parameters, allow_unused=True)
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 7.0)  # stale: it must be overwritten
    losses = learner.learn(batch, 0, 1)
    torch.testing.assert_close(losses, plain.detach(), rtol=0, atol=tolerance)
    largest = max(float(one.abs().max()) for one in wanted if one is not None)
    assert largest > 1e-4, "a gradient of zero would prove nothing"
    for parameter, one in zip(parameters, wanted, strict=True):
        assert parameter.grad is not None
        expected = torch.zeros_like(parameter) if one is None else one
        assert float((parameter.grad - expected).abs().max()) <= tolerance * largest


def assert_shards_add_up(learner: Learner, batch: Episodes | Examples, tolerance: float = 1e-12) -> None:
    """The weighted mean of two ranks' gradients is the gradient of the whole batch."""
    parameters = list(learner.parameters())

    def gradients(part: Episodes | Examples) -> list[Tensor]:
        learner.learn(part, 0, 1)
        return [copy.deepcopy(p.grad) for p in parameters if p.grad is not None]

    tasks = len(batch.index) if isinstance(batch, Episodes) else len(batch.x)
    cut = tasks // 3
    whole, first, second = (
        gradients(some_tasks(batch, part))  # type: ignore[type-var]  # either kind of batch
        for part in (slice(0, tasks), slice(0, cut), slice(cut, tasks))
    )
    largest = max(float(one.abs().max()) for one in whole)
    for all_of_it, a, b in zip(whole, first, second, strict=True):
        mean = a * (cut / tasks) + b * (1 - cut / tasks)
        assert float((all_of_it - mean).abs().max()) <= tolerance * largest


def assert_restores(learner: Learner, batch: Episodes | Examples) -> None:
    """A learner that returns to a saved state goes on just as it did from there."""

    def go_on() -> list[Tensor]:
        for step in range(2):
            learner.learn(batch, step, 10)
            learner.update(step, 10)
        return [p.detach().clone() for p in learner.parameters()]

    go_on()
    saved = copy.deepcopy(learner.state_dict())
    first = go_on()
    moved = go_on()
    learner.load_state_dict(saved)
    again = go_on()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, moved, strict=True))


def assert_transduction_is_as_claimed(learner: Learner, batch: Episodes) -> None:
    """Permuted queries give permuted predictions; split queries give the same ones unless transductive."""
    with torch.no_grad():
        state = learner.adapt(batch.support)
        whole = learner.predict(state, batch.query.x)
        order = torch.randperm(whole.shape[1], generator=torch.Generator().manual_seed(3))
        permuted = learner.predict(state, batch.query.x[:, order])
        third = whole.shape[1] // 3  # batch norm over a single query would be undefined
        parts = (batch.query.x[:, start : start + third] for start in range(0, whole.shape[1], third))
        split = torch.cat([learner.predict(state, part) for part in parts], 1)
    torch.testing.assert_close(permuted, whole[:, order], rtol=1e-9, atol=1e-9)
    apart = float((split - whole).abs().max() / whole.abs().max())
    assert (apart > 1e-6) == learner.transductive, f"split queries differ by {apart}"


def assert_adapting_changes_nothing(learner: Learner, batch: Episodes) -> None:
    """Adapting and predicting leave no gradient and no changed weight, with and without recording."""
    for parameter in learner.parameters():
        parameter.grad = None
    before = [p.detach().clone() for p in learner.parameters()]
    recorded = learner.predict(learner.adapt(batch.support), batch.query.x)
    with torch.no_grad():
        unrecorded = learner.predict(learner.adapt(batch.support), batch.query.x)
    assert not unrecorded.requires_grad
    torch.testing.assert_close(recorded.detach(), unrecorded, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters(), strict=True))
    assert all(p.grad is None for p in learner.parameters())


def assert_reads_support_labels_only(learner: Learner, batch: Episodes) -> None:
    """Predictions follow the support labels: renamed classes give renamed columns."""
    ways = int(batch.support.y.max()) + 1
    renamed = (batch.support.y + 1) % ways
    with torch.no_grad():
        told = learner.predict(learner.adapt(batch.support), batch.query.x)
        other = learner.predict(learner.adapt(Examples(batch.support.x, renamed)), batch.query.x)
    torch.testing.assert_close(told, other.roll(-1, 2), rtol=1e-9, atol=1e-9)


def variants(algorithm: Algorithm, **settings: Sequence[Any]) -> list[Algorithm]:
    """The algorithm with each of one setting's values."""
    ((name, values),) = settings.items()
    return [dataclasses.replace(algorithm, **{name: value}) for value in values]
