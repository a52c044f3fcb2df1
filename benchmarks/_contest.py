"""The meta-steps that the speed benchmarks time: metabench's, and loops over tasks that do the same work.

The loop is learn2learn's own (its classes, in the loop of its examples) where the library is installed and
has the algorithm, else a plain one of the same operations. learn2learn has no class for Reptile: that loop is
the one of its example `reptile_miniimagenet.py` (copy the model, train the copy, move towards it), with plain
gradient descent inside, as ours.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Dataset, Episodes, Learner, Network, Workload
from metabench import Protocol as TaskProtocol
from metabench.device import Device
from metabench.learning import with_head
from metabench.plugins import Registry, load
from metabench.settings import make
from metabench_plugins.networks.conv4 import Conv4
from metabench_plugins.networks.mlp import Mlp
from metabench_plugins.networks.resnet12 import ResNet12

WAYS = 5
SEED = 1  # of the initial weights
STEPS = 10**6  # of the training whose step is timed
SAME_WORK = 1e-10
"""The largest difference of two meta-gradients in float64, as a fraction of the largest entry.

Two orders of summation differ by about 1e-14 in float64. In float32 they may differ by any amount: some
inputs of a ReLU or a pooling are closer to its kink than float32 rounding, and land on the other side of it.
"""


@dataclass(frozen=True)
class Row:
    """A line of the table: what is learned, and how many times faster than the loop it must and should be.

    settings: of both sides; own_settings: of ours in addition; shots: also the queries of a class;
    at_least_jax: how many times the fastest JAX program, 0: no matter.
    """

    title: str
    algorithm: str
    network: str
    settings: Mapping[str, Any]
    at_least: float
    aim: float
    own_settings: Mapping[str, Any] = field(default_factory=dict)
    shots: int = 1
    tasks: int = 32
    at_least_jax: float = 0

    @property
    def regression(self) -> bool:
        """Whether the tasks are sine waves; else they are images of five classes."""
        return self.network == "mlp"

    @property
    def protocol(self) -> TaskProtocol:
        """Ways, shots and queries of a task."""
        return TaskProtocol(1 if self.regression else WAYS, self.shots, self.shots)


SINE = {"inner_rate": 0.01, "steps": 5}
IMAGE = {"inner_rate": 0.1, "steps": 1}
FIRST_ORDER = {"first_order": True}
REPTILE = {"inner_rate": 0.01, "steps": 5, "mini_batch": 0}
OF_QUERIES = {"statistics": "queries", "train_statistics": "queries"}  # as the other side has them
ROWS = {
    "sine-maml": Row("sine MLP, MAML", "maml", "mlp", SINE, 16, 30, shots=10, at_least_jax=1.0),
    "sine-first": Row("sine MLP, MAML, first order", "maml", "mlp", SINE | FIRST_ORDER, 16, 30, shots=10),
    "sine-anil": Row("sine MLP, ANIL", "anil", "mlp", SINE, 1, 30, shots=10),
    "sine-metasgd": Row("sine MLP, Meta-SGD", "metasgd", "mlp", SINE, 1, 30, shots=10),
    "sine-reptile": Row("sine MLP, Reptile", "reptile", "mlp", REPTILE, 16, 30, shots=10, at_least_jax=1.0),
    "conv-1shot": Row("Conv4, MAML", "maml", "conv4", IMAGE, 1.7, 2.5, at_least_jax=0.8),
    "conv-first": Row("Conv4, MAML, first order", "maml", "conv4", IMAGE | FIRST_ORDER, 1.7, 2.5),
    "conv-5steps-first": Row(
        "Conv4, MAML, 5 steps, first order", "maml", "conv4", IMAGE | FIRST_ORDER | {"steps": 5}, 2.0, 2.8,
        at_least_jax=0.8,
    ),
    "conv-5shot": Row("Conv4, MAML, 5-shot", "maml", "conv4", IMAGE, 1.0, 1.5, shots=5, at_least_jax=1.0),
    "conv-anil": Row("Conv4, ANIL", "anil", "conv4", IMAGE, 1.0, 2.5),
    "conv-metasgd": Row("Conv4, Meta-SGD", "metasgd", "conv4", IMAGE | {"inner_rate": 0.01}, 1.0, 2.5),
    "conv-reptile": Row("Conv4, Reptile, 5 steps", "reptile", "conv4", REPTILE, 1.0, 2.0),
    "protonet": Row("Conv4, ProtoNet", "protonet", "conv4", {}, 1.0, 2.5, OF_QUERIES, at_least_jax=0.9),
    "skips": Row("third party's residual network, MAML", "maml", "skips", IMAGE, 1.0, 1.5),
    "resnet12": Row("ResNet-12 (16), MAML, 8 tasks", "maml", "resnet12", IMAGE, 1.0, 1.5, tasks=8),
}  # fmt: skip
"""Images are 5-way 1-shot with one inner step, sine waves 10-shot with five, where the title has no other."""


class Skips(nn.Module):
    """A third party's residual network, as such code is written."""

    def __init__(self, channels: int, outputs: int, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, track_running_stats=False) for _ in range(2))
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, height, width] → [n, outputs]."""
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = x + F.relu(self.norms[0](self.first(x)))
        x = x + F.relu(self.norms[1](self.second(x)))
        y: Tensor = self.head(x.mean((2, 3)))
        return y


@dataclass(frozen=True, kw_only=True)
class SkipNetwork(Network):
    """`Skips` as a network of a cell."""

    name: ClassVar[str] = "skips"

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """The module for images of so many channels."""
        assert outputs is not None
        return with_head(Skips(input_shape[0], outputs), "head", outputs)


NETWORKS: dict[str, Network] = {
    "mlp": Mlp(),
    "conv4": Conv4(),
    "resnet12": ResNet12(width=16),
    "skips": SkipNetwork(),
}


class Side(Protocol):
    """What is timed of a learner."""

    def parameters(self) -> Sequence[Tensor]: ...

    def learn(self, batch: Episodes, step: int, total: int) -> Tensor: ...

    def update(self, step: int, total: int) -> None: ...


@dataclass(frozen=True)
class Contest:
    """Both sides of a row, with equal weights, and the tasks that they learn from."""

    row: Row
    ours: Learner
    loop: Side
    episodes: Episodes

    def our_step(self) -> None:
        """One whole meta-step of ours: meta-gradient and update."""
        self.ours.learn(self.episodes, 0, STEPS)
        self.ours.update(0, STEPS)

    def loop_step(self) -> None:
        """One whole meta-step of the loop."""
        self.loop.learn(self.episodes, 0, STEPS)
        self.loop.update(0, STEPS)


def contest(row: Row, device: Device | None = None, execution: str = "eager") -> Contest:
    """Return both sides of a row on the device, in its float type (the CPU, float32); execution: of ours."""
    device = device or Device()
    return Contest(row, learner_of(row, device, execution), loop_of(row, device), episodes_of(row, device))


def difference(row: Row, torch_device: str = "cpu", execution: str = "eager") -> float:
    """Return the largest difference of both meta-gradients in float64, as a fraction of the largest entry.

    Raises SystemExit where it is larger than SAME_WORK: the sides do not do the same work.
    """
    both = contest(row, Device(torch_device, torch.float64), execution)
    for _ in range(2 if execution == "cuda-graph" else 1):  # the first call captures, the second one replays
        both.ours.learn(both.episodes, 0, STEPS)
    both.loop.learn(both.episodes, 0, STEPS)
    pairs = [(a.grad, b.grad) for a, b in zip(both.ours.parameters(), both.loop.parameters(), strict=True)]
    largest = max(float(b.abs().max()) for _, b in pairs if b is not None)
    fraction = max(float((a - b).abs().max()) for a, b in pairs if a is not None and b is not None) / largest
    if not fraction <= SAME_WORK:
        raise SystemExit(
            f"{row.title}: in float64 the meta-gradients of the engine and of the loop differ by "
            f"{fraction:.1e} of the largest entry (at most {SAME_WORK:.0e} wanted); not the same work, so "
            "nothing is timed"
        )
    return fraction


def learner_of(row: Row, device: Device | None = None, execution: str = "eager") -> Learner:
    """Return metabench's learner; execution: how the meta-step of MAML runs."""
    execution_settings = {"execution": execution} if row.algorithm == "maml" else {}
    settings = {**row.settings, **row.own_settings, **execution_settings}
    return _built(row.algorithm, settings, row, device or Device())


def loop_of(row: Row, device: Device) -> Side:
    """Return the loop over tasks that does the work of a row."""
    if has_learn2learn() and row.algorithm in LIBRARY:
        return _built(LIBRARY[row.algorithm], row.settings, row, device)
    return PLAIN[row.algorithm](module_of(row, device), row)


def module_of(row: Row, device: Device) -> nn.Module:
    """Return the network of a row with the weights that every side starts from."""
    workload = workload_of(row)
    torch.manual_seed(SEED)
    outputs = None if row.algorithm == "protonet" else workload.outputs  # None: an embedding, without head
    return NETWORKS[row.network].build(workload.facts.input_shape, outputs).to(device.torch, device.dtype)


def has_loop(row: Row) -> bool:
    """Whether this installation has a loop over tasks for a row."""
    return row.algorithm in PLAIN or has_learn2learn()


@cache
def has_learn2learn() -> bool:
    """Whether learn2learn is installed."""
    return _registry().find("algorithm", LIBRARY["maml"]).cls.unavailable() is None


def episodes_of(row: Row, device: Device | None = None) -> Episodes:
    """Return the tasks of a row, the same for each device and float type up to rounding."""
    return _dataset(row).load(device or Device()).episodes("train", row.protocol, range(row.tasks), seed=0)


def workload_of(row: Row) -> Workload:
    """Return what both sides' learners are built for."""
    return Workload(_dataset(row).describe(), row.protocol, row.protocol, steps=STEPS, tasks=row.tasks)


def _dataset(row: Row) -> Dataset:
    dataset: Dataset = make(_registry().find("dataset", "sinusoid" if row.regression else "glyphs").cls)
    return dataset


def _built(algorithm: str, settings: Mapping[str, Any], row: Row, device: Device) -> Learner:
    torch.manual_seed(SEED)
    component = make(_registry().find("algorithm", algorithm).cls, settings)
    learner: Learner = component.build(workload_of(row), NETWORKS[row.network], device)
    return learner


@cache
def _registry() -> Registry:
    return load()


class PlainLoop(ABC):
    """A loop over tasks; a subclass adds the gradient of one task to the parameters' `.grad`."""

    def __init__(self, module: nn.Module, row: Row) -> None:
        self.module, self.settings = module, row.settings
        self.loss: Callable[[Tensor, Tensor], Tensor] = F.mse_loss if row.regression else F.cross_entropy
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(module.parameters(), 1e-3)

    def parameters(self) -> Sequence[Tensor]:
        """The model's."""
        return list(self.module.parameters())

    def learn(self, batch: Episodes, step: int, total: int) -> Tensor:
        """Sets `.grad` to the mean of the tasks' gradients; returns the queries' losses [T]."""
        for parameter in self.parameters():
            parameter.grad = torch.zeros_like(parameter)
        losses = [self.learn_task(*task) for task in zip(*batch.support, *batch.query, strict=True)]
        for parameter in self.parameters():
            assert parameter.grad is not None
            parameter.grad.mul_(1 / len(losses))
        return torch.stack(losses)

    def update(self, step: int, total: int) -> None:
        """One step of the outer optimizer."""
        self.optimizer.step()

    @abstractmethod
    def learn_task(self, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor) -> Tensor:
        """Adds a task's gradient; returns its queries' loss, a number without graph."""


class PlainMaml(PlainLoop):
    """The same operations as learn2learn's: clone the module, step its weights, backward for each task."""

    def learn_task(self, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor) -> Tensor:
        learner = _clone(self.module)
        second_order = not self.settings.get("first_order", False)
        for _ in range(self.settings["steps"]):
            slots = [(m, n, p) for m in learner.modules() for n, p in m._parameters.items() if p is not None]
            gradients = torch.autograd.grad(
                self.loss(learner(xs), ys), [p for *_, p in slots], create_graph=second_order
            )
            for (owner, name, p), gradient in zip(slots, gradients, strict=True):
                owner._parameters[name] = p - self.settings["inner_rate"] * gradient  # type: ignore[assignment]  # as learn2learn
        loss = self.loss(learner(xq), yq)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        return loss.detach()


class PlainProtoNet(PlainLoop):
    """One task after the other: embed support and queries, class means, distances, backward."""

    def learn_task(self, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor) -> Tensor:
        support, queries = self.module(xs), self.module(xq)
        means = torch.stack([support[ys == way].mean(0) for way in range(WAYS)])
        loss = F.cross_entropy(-(queries[:, None] - means).square().sum(2), yq)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        return loss.detach()


class ReptileLoop(PlainLoop):
    """Copy the model, train the copy by plain descent; the gradient is the weights minus the trained ones."""

    def __init__(self, module: nn.Module, row: Row) -> None:
        super().__init__(module, row)
        self.optimizer = torch.optim.SGD(module.parameters(), 1.0)

    def learn_task(self, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor) -> Tensor:
        learner = copy.deepcopy(self.module)
        inner = torch.optim.SGD(learner.parameters(), self.settings["inner_rate"])
        x, y = torch.cat([xs, xq]), torch.cat([ys, yq])
        for _ in range(self.settings["steps"]):
            inner.zero_grad()
            self.loss(learner(x), y).backward()  # type: ignore[no-untyped-call]  # torch's own
            inner.step()
        with torch.no_grad():
            for parameter, trained in zip(self.parameters(), learner.parameters(), strict=True):
                assert parameter.grad is not None
                parameter.grad.add_(parameter - trained)
            return self.loss(learner(xq), yq)


def _clone(module: nn.Module) -> nn.Module:
    """A copy whose parameters are clones with a graph to the originals, as learn2learn makes it."""
    clone = module.__new__(type(module))
    clone.__dict__ = module.__dict__.copy()
    clone._parameters = {n: None if p is None else p.clone() for n, p in module._parameters.items()}  # type: ignore[misc]
    clone._modules = {n: None if m is None else _clone(m) for n, m in module._modules.items()}
    return clone


LIBRARY = {"maml": "l2l-maml", "anil": "l2l-anil", "metasgd": "l2l-metasgd", "protonet": "l2l-protonet"}
"""metabench's algorithms and learn2learn's of the same work."""
PLAIN: dict[str, type[PlainLoop]] = {"maml": PlainMaml, "protonet": PlainProtoNet, "reptile": ReptileLoop}
