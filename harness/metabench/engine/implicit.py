"""Implicit differentiation: the meta-gradient at an optimum of each task, by conjugate gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metabench.engine.adapt import TaskWeights, gradients

Loss = Callable[[TaskWeights], Tensor]

LEAST_CURVATURE = 0.1
"""Below this part of pᵀp, pᵀ A p ends a task's solver. A is I and more where the support loss is convex, so
that nothing ends there; close to singular, a step of 1 / pᵀ A p would carry x off to infinity."""


def implicit_loss(
    query: Loss, support: Loss, adapted: TaskWeights, start: TaskWeights, stiffness: float, steps: int
) -> Tensor:
    """The query losses [T] at φ, with g for their gradient in θ, where (I + ∇²L(φ)/stiffness) g = ∇Q(φ).

    query, support: Q and L, task weights → [T]; adapted: φ, for constants; start: θ, what the result can be
    differentiated in; steps: of conjugate gradient, towards g.
    """
    weights = {n: w.detach().requires_grad_() for n, w in adapted.items()}
    losses = query(weights)
    slope = gradients(losses.sum(), weights, differentiable=False)
    held = {n: weights[n] for n in slope}
    first = gradients(support(weights).sum(), held, differentiable=True)

    def matrix(vector: list[Tensor]) -> list[Tensor]:
        """(I + ∇²L/stiffness) v for each task, by a second derivative in the direction v."""
        bent = torch.autograd.grad(
            list(first.values()),
            list(held.values()),
            [v for n, v in zip(held, vector, strict=True) if n in first],
            retain_graph=True,
            materialize_grads=True,
        )
        return [v + h / stiffness for v, h in zip(vector, bent, strict=True)]

    g = conjugate_gradient(matrix, list(slope.values()), steps)
    along = _dot([start[n] for n in slope], g)
    return losses.detach() + along - along.detach()


def conjugate_gradient(
    matrix: Callable[[list[Tensor]], list[Tensor]], b: list[Tensor], steps: int
) -> list[Tensor]:
    """x with A x ≈ b after `steps` steps from 0, each task on its own: b a list of [T, …].

    A task ends where it is solved, or where A turns out not to be safely positive (`LEAST_CURVATURE`); its
    x is what it had by then, b if that was at the first step.
    """
    x = [torch.zeros_like(one) for one in b]
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
    """One inner product for each task, [T]."""
    return torch.stack([(i * j).flatten(1).sum(1) for i, j in zip(a, b, strict=True)]).sum(0)


def _times(scale: Tensor, one: Tensor) -> Tensor:
    """Each task's scale [T] times its tensor [T, …]."""
    return scale.view(-1, *[1] * (one.dim() - 1)) * one
