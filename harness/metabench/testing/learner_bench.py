"""What the checks of learners work with: one algorithm built for tiny tasks, and every call's own checks."""

from __future__ import annotations

import copy
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from metabench.contracts import Algorithm, Dataset, Episodes, Examples, Learner, Network
from metabench.data.order import draw_episodes
from metabench.device.device import Device
from metabench.records.cell import Batches, Facts, Protocol, Workload
from metabench.testing.contract_error import Subject

TASKS = 3
STEPS = 10


@dataclasses.dataclass
class Bench:
    """What a check works with: one algorithm, network, data set and device."""

    subject: Subject
    algorithm: Algorithm
    network: Network | None
    dataset: Dataset
    test: Protocol
    device: Device
    tolerance: float

    def __post_init__(self) -> None:
        self.facts: Facts = self.dataset.describe()
        self.source = self.dataset.load(self.device)
        with self.subject.doing("train_protocol(test)"):
            train = self.algorithm.train_protocol(self.test)
        self.subject.require(
            train is None or isinstance(train, (Protocol, Batches)),
            f"train_protocol gives {train!r}; it gives a Protocol, Batches, or None where nothing is trained",
        )
        if isinstance(train, Batches):  # as the harness does: the budget says how many examples a step has
            micro = min(train.micro, 8)
            train = dataclasses.replace(train, size=TASKS * micro, micro=micro)
        self.workload = Workload(self.facts, train, self.test, STEPS, TASKS, seed=5)

    def build(self, seed: int = 5, **changes: Any) -> Learner:
        """The learner as a worker builds it; changes: to the workload, and `network`."""
        network = changes.pop("network", self.network)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.algorithm.build(dataclasses.replace(self.workload, **changes), network, self.device)

    def learner(self, seed: int = 5) -> Learner:
        """The learner; any exception is the contract's breach."""
        with self.subject.doing("build"):
            return self.build(seed)

    @property
    def trained(self) -> bool:
        """Whether there is anything to train."""
        return self.workload.train is not None

    def batch(self, step: int = 0) -> Any:
        """The tasks (or micro-batches) of a training step."""
        numbers = range(TASKS * step, TASKS * (step + 1))
        if isinstance(self.workload.train, Batches):
            return self.source.batch(self.workload.train, numbers, seed=5)
        assert self.workload.train is not None
        return draw_episodes(self.source, "train", self.workload.train, numbers, seed=5)

    def tasks(self) -> Episodes:
        """Tasks of the test."""
        return draw_episodes(self.source, "test", self.test, range(TASKS), seed=11)

    def learn(self, learner: Learner, batch: Any, step: int = 0) -> tuple[Tensor, list[Tensor]]:
        """The losses and a copy of each gradient; checks their shapes."""
        with self.subject.doing("learn(batch, step, total)"):
            losses = learner.learn(batch, step, STEPS)
        units = len(batch.index) if isinstance(batch, Episodes) else len(batch.x)
        shape = tuple(losses.shape) if isinstance(losses, Tensor) else losses
        self.subject.require(
            shape == (units,),
            f"learn returns {shape} where {units} tasks were given; it returns one loss per task, [T]",
        )
        self.subject.require(
            bool(losses.isfinite().all()),
            f"learn returns losses that are no finite numbers: {losses.tolist()}",
        )
        grads = []
        for number, parameter in enumerate(learner.parameters()):
            self.subject.require(
                parameter.grad is not None,
                f"learn leaves no .grad in parameter {number}, {tuple(parameter.shape)}: write zeros where "
                "the loss does not depend on it, and leave what is not trained out of parameters()",
            )
            assert parameter.grad is not None
            grads.append(parameter.grad.detach().clone())
        return losses.detach().clone(), grads

    def train(self, learner: Learner, steps: int = 2, first: int = 0) -> None:
        """Some steps of training, as the harness takes them."""
        for step in range(first, first + steps):
            self.learn(learner, self.batch(step), step)
            with self.subject.doing("update(step, total)"):
                learner.update(step, STEPS)

    def finish(self, learner: Learner) -> None:
        """What the harness does before it scores."""
        with self.subject.doing("finish(batches)"):
            learner.finish(self._micro_batches())

    def go_round(self, device: Device) -> None:
        """Everything that a learner does, once, on this device."""
        there = dataclasses.replace(self, device=device)
        learner = there.learner()
        if there.trained:
            there.train(learner, 1)
        there.finish(learner)
        place = there.predict(learner, there.tasks()).device.type
        self.subject.require(
            place == device.torch.type,
            f"predict gives a tensor on {place} where the device is {device.torch}",
        )

    def _micro_batches(self) -> Iterator[Examples]:
        number = 0
        while True:
            one = self.source.batch(Batches(16, 16), [number], seed=5)
            yield Examples(one.x[0], one.y[0])
            number += 1

    def predict(self, learner: Learner, tasks: Episodes, **more: Any) -> Tensor:
        """Predictions as the harness asks for them; checks their shape."""
        with torch.no_grad():
            with self.subject.doing("adapt(support, steps)"):
                state = learner.adapt(tasks.support, **more)
            return self.answer(learner, state, tasks.query.x)

    def answer(self, learner: Learner, state: Any, query_x: Tensor) -> Tensor:
        """`predict` from an adapted state; checks the shape."""
        with self.subject.doing("predict(state, query_x)"):
            prediction = learner.predict(state, query_x)
        wanted = (*query_x.shape[:2], self.workload.outputs)
        self.subject.require(
            tuple(prediction.shape) == wanted,
            f"predict gives {tuple(prediction.shape)} for query_x {tuple(query_x.shape)}; "
            f"it gives [T, q, outputs] = {wanted}",
        )
        return prediction.detach().clone()

    def same(self, one: Tensor, other: Tensor, what: str) -> None:
        """Both within `tolerance` of the largest value (not a number equals itself), or `what` is said."""
        apart = apart_by(one, other)
        self.subject.require(apart <= self.tolerance, f"{what} (they differ by {apart:.1e} of the largest)")


def apart_by(one: Tensor, other: Tensor) -> float:
    """The largest difference by the largest finite value; infinite where shapes or infinities differ."""
    if one.shape != other.shape:
        return float("inf")
    finite = one.isfinite()
    if not torch.equal(finite, other.isfinite()) or not torch.equal(
        one[~finite].nan_to_num(), other[~finite].nan_to_num()
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(one[finite].abs().max()) or 1.0
    return float((one[finite] - other[finite]).abs().max()) / scale


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All values in one row."""
    return torch.cat([one.flatten() for one in tensors]) if tensors else torch.zeros(0)


def snapshot(learner: Learner) -> tuple[list[Tensor], bytes]:
    """The parameters, and the whole state as bytes."""
    saved = io.BytesIO()
    torch.save(copy.deepcopy(learner.state_dict()), saved)
    return [p.detach().clone() for p in learner.parameters()], saved.getvalue()


def same_state(one: tuple[list[Tensor], bytes], other: tuple[list[Tensor], bytes]) -> bool:
    return one[1] == other[1] and all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))
