"""Implicit differentiation: the meta-gradient at an optimum of each task, by conjugate gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metabench.engine.adapt import gradients
from metabench.engine.task_weights import TaskWeights

Loss = Callable[[TaskWeights], Tensor]

LEAST_CURVATURE = 0.1
"""The fraction of pᵀp below which pᵀ A p ends a task's solver. A is I and more where the support loss is
convex, so that nothing ends there; close to singular, a step of 1 / pᵀ A p would carry x off to infinity."""


def implicit_loss(
    query: Loss, support: Loss, adapted: TaskWeights, start: TaskWeights, stiffness: float, steps: int
) -> Tensor:
    """Return the query losses [T] at φ, whose gradient in θ is g, with (I + ∇²L(φ)/stiffness) g = ∇Q(φ).

    query, support: Q and L, task weights → [T]; adapted: φ, taken for constants; start: θ, which the result
    can be differentiated in; steps: of conjugate gradient, towards g.
    """
    phi = {name: weight.detach().requires_grad_() for name, weight in adapted.items()}
    losses = query(phi)
    query_gradient = gradients(losses.sum(), phi, differentiable=False)
    leaves = {name: phi[name] for name in query_gradient}
    support_gradient = gradients(support(phi).sum(), leaves, differentiable=True)

    def matrix(vector: list[Tensor]) -> list[Tensor]:
        """Return (I + ∇²L/stiffness) v for each task, by a second derivative in the direction v."""
        products = torch.autograd.grad(
            list(support_gradient.values()),
            list(leaves.values()),
            [v for name, v in zip(leaves, vector, strict=True) if name in support_gradient],
            retain_graph=True,
            materialize_grads=True,
        )
        return [v + product / stiffness for v, product in zip(vector, products, strict=True)]

    g = conjugate_gradient(matrix, list(query_gradient.values()), steps)
    along = _dot([start[name] for name in query_gradient], g)
    return losses.detach() + along - along.detach()


def conjugate_gradient(
    matrix: Callable[[list[Tensor]], list[Tensor]], b: list[Tensor], steps: int
) -> list[Tensor]:
    """Return x with A x ≈ b after `steps` steps from 0, each task on its own: b a list of [T, …].

    A task ends where it is solved, or where A turns out not to be safely positive (`LEAST_CURVATURE`); its
    x is what it had by then, b if that was at the first step.
    """
    x = [torch.zeros_like(part) for part in b]
    r = p = b
    rr = _dot(r, r)
    going = rr > 0
    begun = torch.zeros_like(going)
    for _ in range(steps):
        ap = matrix(p)
        curvature = _dot(p, ap)
        going = going & (curvature > LEAST_CURVATURE * _dot(p, p)) & (rr > 0)
        begun = begun | going
        alpha = torch.where(going, rr / curvature, 0)
        x = [xi + _times(alpha, pi) for xi, pi in zip(x, p, strict=True)]
        r = [ri - _times(alpha, ai) for ri, ai in zip(r, ap, strict=True)]
        new = _dot(r, r)
        beta = torch.where(going, new / rr, 0)
        p = [ri + _times(beta, pi) for ri, pi in zip(r, p, strict=True)]
        rr = new
    return [torch.where(_times(begun, torch.ones_like(xi)) > 0, xi, bi) for xi, bi in zip(x, b, strict=True)]


def _dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Return the inner product of each task, [T]."""
    return torch.stack([(i * j).flatten(1).sum(1) for i, j in zip(a, b, strict=True)]).sum(0)


def _times(scale: Tensor, tensor: Tensor) -> Tensor:
    """Return each task's scale [T] times its tensor [T, …]."""
    return scale.view(-1, *[1] * (tensor.dim() - 1)) * tensor
