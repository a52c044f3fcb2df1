"""The loops over tasks that people use today: learn2learn's own, and plain ones of the same operations.

`sides` puts the engine and its loop side by side, `require_same_work` proves that both compute the same.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from _rows import WAYS, Row, episodes_of, learner_of, network_of
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Episodes, Learner
from metabench.device import Device
from metabench_plugins.learn2learn.importing import learn2learn

SAME_WORK = 1e-10
"""Largest difference of two meta-gradients in float64, as a fraction of the largest entry.

Two orders of summation differ by about 1e-14 in float64. In float32 they may differ by any amount: some
inputs of a ReLU or a pooling are closer to its kink than float32 rounding, and land on the other side of it.
"""


@dataclass(frozen=True)
class Sides:
    """The engine's learner and the loop's module, with equal weights, and the tasks that both learn from."""

    row: Row
    learner: Learner
    module: nn.Module
    episodes: Episodes

    def ours(self) -> object:
        """The engine's meta-gradient; returns the losses."""
        return self.learner.learn(self.episodes, 0, 10)

    def loop(self) -> None:
        """The loop's meta-gradient."""
        loop_of(self.row)(self.module, self.episodes, self.row)


def sides(row: Row, execution: str = "eager", device: Device | None = None) -> Sides:
    """Both sides of a row on the device, in its type (float32 on the CPU); execution: of ours."""
    learner = learner_of(row, execution, device)
    return Sides(row, learner, copy.deepcopy(network_of(learner)), episodes_of(row, device))


def require_same_work(row: Row, execution: str = "eager", torch_device: str = "cpu") -> None:
    """Compares the meta-gradients of both sides in float64, on copies; ends the process where they differ."""
    both = sides(row, execution, Device(torch_device, torch.float64))
    for _ in range(2 if execution == "cuda-graph" else 1):  # the first call captures, the second one replays
        both.ours()
    both.loop()
    wanted = [p.grad for p in both.module.parameters() if p.grad is not None]
    found = [p.grad for p in both.learner.parameters() if p.grad is not None]
    if row.algorithm == "protonet":  # its loop has no head, so no gradient for it
        found = found[: len(wanted)]
    largest = max(float(w.abs().max()) for w in wanted)
    error = max(float((f - w).abs().max()) for f, w in zip(found, wanted, strict=True)) / largest
    if not error <= SAME_WORK:
        raise SystemExit(
            f"{row.title}: in float64 the meta-gradients of the engine and of the loop differ by {error:.1e} "
            f"of the largest entry (at most {SAME_WORK:.0e} wanted); not the same work, so nothing is timed"
        )


def loop_of(row: Row) -> Callable[[nn.Module, Episodes, Row], None]:
    """The loop over tasks that does a row's work."""
    if row.algorithm == "maml":
        return learn2learn_maml if has_learn2learn() else plain_maml
    return plain_reptile if row.algorithm == "reptile" else plain_protonet


def has_learn2learn() -> bool:
    """Whether learn2learn is installed."""
    return importlib.util.find_spec("learn2learn") is not None


def loss_of(prediction: Tensor, y: Tensor) -> Tensor:
    """Squared error or cross entropy."""
    return F.mse_loss(prediction, y) if y.is_floating_point() else F.cross_entropy(prediction, y)


def tasks_of(episodes: Episodes) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Each task's support x, y and query x, y."""
    yield from zip(*episodes.support, *episodes.query, strict=True)


def learn2learn_maml(module: nn.Module, episodes: Episodes, row: Row) -> None:
    """The loop of learn2learn's examples; it wraps the module itself, so gradients land in it."""
    maml = learn2learn().algorithms.MAML(module, lr=row.rate, first_order=row.first_order)
    module.zero_grad()
    for xs, ys, xq, yq in tasks_of(episodes):
        learner = maml.clone()
        for _ in range(row.steps):
            learner.adapt(loss_of(learner(xs), ys))
        error = loss_of(learner(xq), yq)
        error.backward()
        error.item()
    averaged(module, row.tasks)


def plain_maml(module: nn.Module, episodes: Episodes, row: Row) -> None:
    """The same operations as learn2learn's loop: clone the module, step its weights, backward per task."""
    module.zero_grad()
    for xs, ys, xq, yq in tasks_of(episodes):
        learner = cloned(module)
        for _ in range(row.steps):
            slots = [(m, n, p) for m in learner.modules() for n, p in m._parameters.items() if p is not None]
            second = not row.first_order
            found = torch.autograd.grad(
                loss_of(learner(xs), ys), [p for *_, p in slots], retain_graph=second, create_graph=second
            )
            for (owner, name, p), slope in zip(slots, found, strict=True):
                owner._parameters[name] = p - row.rate * slope  # type: ignore[assignment]  # as learn2learn
        error = loss_of(learner(xq), yq)
        error.backward()  # type: ignore[no-untyped-call]  # torch's own
        error.item()
    averaged(module, row.tasks)


def cloned(module: nn.Module) -> nn.Module:
    """A copy whose parameters are clones with a graph to the originals."""
    copied = module.__new__(type(module))
    copied.__dict__ = module.__dict__.copy()
    copied._parameters = {n: None if p is None else p.clone() for n, p in module._parameters.items()}  # type: ignore[misc]
    copied._modules = {n: None if m is None else cloned(m) for n, m in module._modules.items()}
    return copied


def averaged(module: nn.Module, tasks: int) -> None:
    """Sums over tasks become means."""
    for p in module.parameters():
        if p.grad is None:
            p.grad = torch.zeros_like(p)
        p.grad.mul_(1 / tasks)


def plain_reptile(module: nn.Module, episodes: Episodes, row: Row) -> None:
    """Reptile as its users write it: copy the network, train it, add up the differences."""
    moved = [torch.zeros_like(p) for p in module.parameters()]
    for xs, ys, xq, yq in tasks_of(episodes):
        learner = copy.deepcopy(module)
        optimizer = torch.optim.SGD(learner.parameters(), row.rate)
        x, y = torch.cat([xs, xq]), torch.cat([ys, yq])
        for _ in range(row.steps):
            optimizer.zero_grad()
            loss_of(learner(x), y).backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
        with torch.no_grad():
            loss_of(learner(xq), yq).item()
            for total, p, q in zip(moved, module.parameters(), learner.parameters(), strict=True):
                total.add_(p - q)
    for total, p in zip(moved, module.parameters(), strict=True):
        p.grad = total / row.tasks


def plain_protonet(module: nn.Module, episodes: Episodes, row: Row) -> None:
    """One task after the other: embed support and queries, class means, distances, backward."""
    module.zero_grad()
    embed: Any = module.features
    for xs, ys, xq, yq in tasks_of(episodes):
        n = len(xs)
        features = embed(torch.cat([xs, xq]))
        means = torch.stack([features[:n][ys == way].mean(0) for way in range(WAYS)])
        distance = (features[n:, None] - means).square().sum(2)
        error = F.cross_entropy(-distance, yq)
        error.backward()  # type: ignore[no-untyped-call]  # torch's own
        error.item()
    averaged(module, row.tasks)
