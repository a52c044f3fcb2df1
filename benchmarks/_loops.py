"""The loops over tasks that people use today: learn2learn's own, and plain ones of the same operations."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import torch
from _rows import WAYS, Row
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Episodes
from metabench_plugins.learn2learn.importing import learn2learn


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
