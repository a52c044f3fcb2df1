"""The bench of the learner checks: an algorithm built for tiny tasks, and the checks of every call."""

from __future__ import annotations

import copy
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from metabench.contracts import Algorithm, Dataset, Episodes, Learner, Network
from metabench.data.micro_batches import micro_batches
from metabench.data.order import draw_episodes
from metabench.device.device import Device
from metabench.records.cell import Facts, Workload
from metabench.records.protocol import Batches, Protocol
from metabench.testing.contract_error import Subject

TASKS = 3
STEPS = 10


@dataclasses.dataclass
class Bench:
    """An algorithm, network, data set and device under test."""

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
            f"train_protocol must return a Protocol, Batches, or None without training, got {train!r}",
        )
        if isinstance(train, Batches):  # as the harness does: the budget says how many examples a step has
            micro = min(train.micro, 8)
            train = dataclasses.replace(train, size=TASKS * micro, micro=micro)
        self.workload = Workload(self.facts, train, self.test, STEPS, TASKS, seed=5)

    def build(self, seed: int = 5, **changes: Any) -> Learner:
        """Build the learner as a worker does; changes: to the workload, and `network`."""
        network = changes.pop("network", self.network)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.algorithm.build(dataclasses.replace(self.workload, **changes), network, self.device)

    def learner(self, seed: int = 5) -> Learner:
        """Build the learner; any exception is a breach of the contract."""
        with self.subject.doing("build"):
            return self.build(seed)

    @property
    def trained(self) -> bool:
        """Return whether there is anything to train."""
        return self.workload.train is not None

    def batch(self, step: int = 0) -> Any:
        """Return the tasks (or micro-batches) of a training step."""
        numbers = range(TASKS * step, TASKS * (step + 1))
        if isinstance(self.workload.train, Batches):
            return self.source.batch(self.workload.train, numbers, seed=5)
        assert self.workload.train is not None
        return draw_episodes(self.source, "train", self.workload.train, numbers, seed=5)

    def tasks(self) -> Episodes:
        """Return tasks of the test."""
        return draw_episodes(self.source, "test", self.test, range(TASKS), seed=11)

    def learn(self, learner: Learner, batch: Any, step: int = 0) -> tuple[Tensor, list[Tensor]]:
        """Return the losses and a copy of each gradient; check their shapes."""
        with self.subject.doing("learn(batch, step, total)"):
            losses = learner.learn(batch, step, STEPS)
        units = len(batch.index) if isinstance(batch, Episodes) else len(batch.x)
        shape = tuple(losses.shape) if isinstance(losses, Tensor) else losses
        self.subject.require(
            shape == (units,),
            f"learn must return the loss of each of {units} tasks, [T], got shape {shape}",
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
        """Take some steps of training, as the harness does."""
        for step in range(first, first + steps):
            self.learn(learner, self.batch(step), step)
            with self.subject.doing("update(step, total)"):
                learner.update(step, STEPS)

    def finish(self, learner: Learner) -> None:
        """Call `finish` as the harness does before it scores."""
        with self.subject.doing("finish(batches)"):
            learner.finish(micro_batches(self.source, self.test, seed=5))

    def run_all(self, device: Device) -> None:
        """Call each method of a learner once on this device."""
        there = dataclasses.replace(self, device=device)
        learner = there.learner()
        if there.trained:
            there.train(learner, 1)
        there.finish(learner)
        place = there.predict(learner, there.tasks()).device.type
        self.subject.require(
            place == device.torch.type,
            f"predict must return a tensor on {device.torch}, got one on {place}",
        )

    def predict(self, learner: Learner, tasks: Episodes, **options: Any) -> Tensor:
        """Return predictions as the harness asks for them; check their shape."""
        with torch.no_grad():
            with self.subject.doing("adapt(support, steps)"):
                state = learner.adapt(tasks.support, **options)
            return self.predict_from(learner, state, tasks.query.x)

    def predict_from(self, learner: Learner, state: Any, query_x: Tensor) -> Tensor:
        """Return predictions from an adapted state; check their shape."""
        with self.subject.doing("predict(state, query_x)"):
            prediction = learner.predict(state, query_x)
        expected = (*query_x.shape[:2], self.workload.outputs)
        self.subject.require(
            tuple(prediction.shape) == expected,
            f"predict must return [T, q, outputs] = {expected} for query_x {tuple(query_x.shape)}, "
            f"got {tuple(prediction.shape)}",
        )
        return prediction.detach().clone()

    def require_equal(self, a: Tensor, b: Tensor, what: str) -> None:
        """Raise ContractError with `what` unless both are within `tolerance` of the largest element."""
        error = relative_error(a, b)
        self.subject.require(error <= self.tolerance, f"{what} (relative difference {error:.1e})")


def relative_error(a: Tensor, b: Tensor) -> float:
    """Return the largest difference relative to a's largest finite element.

    It is infinite where shapes or infinities differ; NaN equals itself.
    """
    if a.shape != b.shape:
        return float("inf")
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()) or not torch.equal(
        a[~finite].nan_to_num(), b[~finite].nan_to_num()
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(a[finite].abs().max()) or 1.0
    return float((a[finite] - b[finite]).abs().max()) / scale


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return all elements in a row."""
    return torch.cat([tensor.flatten() for tensor in tensors]) if tensors else torch.zeros(0)


def snapshot(learner: Learner) -> tuple[list[Tensor], bytes]:
    """Return the parameters, and both states as bytes."""
    saved = io.BytesIO()
    torch.save(copy.deepcopy((learner.state_dict(), learner.training_state())), saved)
    return [p.detach().clone() for p in learner.parameters()], saved.getvalue()


def same_state(before: tuple[list[Tensor], bytes], after: tuple[list[Tensor], bytes]) -> bool:
    """Return whether two snapshots are equal."""
    return before[1] == after[1] and all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
