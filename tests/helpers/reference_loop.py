"""Every gradient-based algorithm as a plain loop over tasks: what the engine's meta-gradients are held to.

Written with `torch.autograd.grad` and `functional_call` alone, one task at a time; nothing of the engine.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from metabench import Episodes
from metabench.engine.implicit import LEAST_CURVATURE

Weights = dict[str, Tensor]


def loss_of(module: nn.Module, weights: Weights, x: Tensor, y: Tensor) -> Tensor:
    """Cross entropy for class numbers, squared error for values."""
    prediction = functional_call(module, weights, (x,))
    return F.mse_loss(prediction, y) if y.is_floating_point() else F.cross_entropy(prediction, y)


class SupportNorm(nn.Module):
    """A batch norm that takes its statistics from the first examples alone."""

    def __init__(self, norm: nn.Module, first: int) -> None:
        super().__init__()
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        self.weight, self.bias, self.eps, self.first = norm.weight, norm.bias, norm.eps, first

    def forward(self, x: Tensor) -> Tensor:
        seen = x[: self.first]
        axes = (0, *range(2, x.dim()))
        mean = seen.mean(axes, keepdim=True)
        variance = (seen - mean).square().mean(axes, keepdim=True)
        shape = mean.shape
        y: Tensor = (x - mean) / (variance + self.eps).sqrt() * self.weight.view(shape) + self.bias.view(
            shape
        )
        return y


def query_loss(module: nn.Module, weights: Weights, task: Any, alone: bool) -> Tensor:
    """The loss on a task's queries; alone: batch norm has the statistics of the support set."""
    y, prediction = task.query.y, query_output(module, weights, task, alone)
    return F.mse_loss(prediction, y) if y.is_floating_point() else F.cross_entropy(prediction, y)


def query_output(module: nn.Module, weights: Weights, task: Any, alone: bool) -> Tensor:
    """The outputs for a task's queries; alone: batch norm has the statistics of the support set."""
    x = task.query.x
    if not alone:
        return functional_call(module, weights, (x,))  # type: ignore[no-any-return]
    n = len(task.support.x)
    module = copy.deepcopy(module)
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            owner, _, last = name.rpartition(".")
            setattr(module.get_submodule(owner), last, SupportNorm(layer, n))
    outputs: Tensor = functional_call(module, weights, (torch.cat([task.support.x, x]),))
    return outputs[n:]


def stepped(
    weights: Weights, loss: Callable[[Weights], Tensor], rate: Any, names: list[str], first_order: bool
) -> Weights:
    """One gradient step of the named weights."""
    gradients = torch.autograd.grad(
        loss(weights), [weights[n] for n in names], create_graph=True, allow_unused=True
    )
    new_weights = dict(weights)
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is not None:
            gradient = gradient.detach() if first_order else gradient
            new_weights[name] = weights[name] - (rate[name] if isinstance(rate, dict) else rate) * gradient
    return new_weights


def adapted_loss(
    module: nn.Module,
    task: Any,
    rate: Any,
    steps: int,
    part: str = "",
    first_order: bool = False,
    alone: bool = False,
) -> Tensor:
    """MAML, ANIL (part "head."), BOIL ("features."), Meta-SGD (rates by name): one task's query loss."""
    weights: Weights = dict(module.named_parameters())
    names = [n for n in weights if n.startswith(part)]
    for _ in range(steps):
        weights = stepped(
            weights, lambda w: loss_of(module, w, task.support.x, task.support.y), rate, names, first_order
        )
    return query_loss(module, weights, task, alone)


def protomaml_loss(
    module: nn.Module, task: Any, rate: float, steps: int, first_order: bool = False, alone: bool = False
) -> Tensor:
    """Proto-MAML: the head starts from class means, one class at a time."""
    x, y = task.support.x, task.support.y
    weights: Weights = dict(module.named_parameters())
    features = functional_call(module, weights, (x,))
    c = torch.stack([features[y == k].mean(0) for k in range(int(y.max()) + 1)])
    # an inner step takes the head for a point of its own, not for a function of the features
    weights = {n: p.view_as(p) for n, p in weights.items()} | {"W": 2 * c, "b": -(c * c).sum(1)}

    def own(w: Weights) -> Weights:
        return {n: v for n, v in w.items() if n not in "Wb"}

    def loss(w: Weights, features: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(features @ w["W"].T + w["b"], y)

    for _ in range(steps):
        weights = stepped(
            weights,
            lambda w: loss(w, functional_call(module, own(w), (x,)), y),
            rate,
            list(weights),
            first_order,
        )
    return loss(weights, query_output(module, own(weights), task, alone), task.query.y)


def mamlpp_loss(
    module: nn.Module, task: Any, rates: Tensor, v: list[float], first_order: bool, alone: bool = False
) -> Tensor:
    """MAML++: the weighted query losses after each step, with a rate per layer and step."""
    weights: Weights = dict(module.named_parameters())
    names = list(weights)
    loss = torch.zeros((), dtype=rates.dtype)
    for k, share in enumerate(v):
        rate = {n: rates[k, i] for i, n in enumerate(names)}
        weights = stepped(
            weights, lambda w: loss_of(module, w, task.support.x, task.support.y), rate, names, first_order
        )
        loss = loss + share * query_loss(module, weights, task, alone)
    return loss


def metalstm_loss(module: nn.Module, updater: Any, task: Any, steps: int, alone: bool = False) -> Tensor:
    """The LSTM meta-learner: one weight tensor after the other, each of its entries by the same LSTM."""
    weights: Weights = dict(module.named_parameters())
    memory: dict[str, tuple[Tensor, ...]] = {}
    for _ in range(steps):
        leaves = {n: w.detach().requires_grad_() for n, w in weights.items()}
        loss = loss_of(module, leaves, task.support.x, task.support.y)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        new_weights = {}
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            theta, g = weight.reshape(-1, 1), gradient.reshape(-1, 1)
            zero = torch.zeros(len(theta), updater.reader.hidden_size, dtype=theta.dtype)
            h, c, f, i = memory.get(name, (zero, zero, zero[:, :1], zero[:, :1]))
            seen = torch.cat([preprocessed(g), preprocessed(loss.detach().expand(len(g), 1))], 1)
            h, c = updater.reader(seen, (h, c))
            f, i = (
                torch.sigmoid(gate(torch.cat([h, theta, old], 1)))
                for gate, old in ((updater.forget, f), (updater.insert, i))
            )
            memory[name] = (h, c, f, i)
            new_weights[name] = (f * theta - i * g).view_as(weight)
        weights = new_weights
    return query_loss(module, weights, task, alone)


def preprocessed(x: Tensor) -> Tensor:
    """Andrychowicz et al. 2016, appendix A, with p = 10: [P, 1] → [P, 2]."""
    small = x.abs() < math.exp(-10)
    size = torch.where(small, -torch.ones_like(x), x.abs().clamp(min=1e-30).log() / 10)
    return torch.cat([size, torch.where(small, math.exp(10) * x, x.sign())], 1)


def imaml_gradient(
    module: nn.Module,
    task: Any,
    rate: float,
    steps: int,
    proximal: float,
    damping: float,
    solver_steps: int | None,
    alone: bool = False,
) -> Weights:
    """Implicit MAML: descend, then solve (by CG steps, or exactly with the whole Hessian for None)."""
    theta = {n: p.detach() for n, p in module.named_parameters()}
    sizes = [p.numel() for p in theta.values()]

    def unflat(flat: Tensor) -> Weights:
        return {n: f.view_as(theta[n]) for n, f in zip(theta, torch.split(flat, sizes), strict=True)}

    def support(flat: Tensor) -> Tensor:
        return loss_of(module, unflat(flat), task.support.x, task.support.y)

    begin = torch.cat([p.flatten() for p in theta.values()])
    phi = begin
    for _ in range(steps):
        phi = phi.requires_grad_()
        pulled = support(phi) + proximal / 2 * (phi - begin).square().sum()
        phi = (phi - rate * torch.autograd.grad(pulled, phi)[0]).detach()
    phi.requires_grad_()
    b = torch.autograd.grad(query_loss(module, unflat(phi), task, alone), phi)[0]
    gradient = torch.autograd.grad(support(phi), phi, create_graph=True)[0]

    def matrix(v: Tensor) -> Tensor:
        return v + torch.autograd.grad(gradient, phi, v, retain_graph=True)[0] / (proximal + damping)

    if solver_steps is None:
        return unflat(torch.linalg.solve(torch.stack([matrix(row) for row in torch.eye(len(b)).to(b)]), b))
    x, r, p = torch.zeros_like(b), b, b
    for step in range(solver_steps):
        along = matrix(p)
        if p @ along <= LEAST_CURVATURE * (p @ p):  # not safely positive: what there is by now
            return unflat(x if step else b)
        alpha = (r @ r) / (p @ along)
        x, before = x + alpha * p, r
        r = r - alpha * along
        p = r + (r @ r) / (before @ before) * p
    return unflat(x)


def mean_gradient_of(
    parameters: list[nn.Parameter], episodes: Episodes, loss: Callable[[Any], Tensor]
) -> list[Tensor]:
    """The gradient of the mean of one loss per task, task by task."""
    total = [torch.zeros_like(p) for p in parameters]
    for task in tasks_of(episodes):
        gradients = torch.autograd.grad(loss(task), parameters, allow_unused=True)
        total = [
            t if g is None else t + g / len(episodes.index) for t, g in zip(total, gradients, strict=True)
        ]
    return total


def tasks_of(episodes: Episodes) -> list[Episodes]:
    """Each task on its own, without the task axis."""
    support, query = episodes.support, episodes.query
    return [
        Episodes(
            type(support)(support.x[t], support.y[t]), type(query)(query.x[t], query.y[t]),
            episodes.classes[t], episodes.index[t],
        )
        for t in range(len(episodes.index))
    ]  # fmt: skip
