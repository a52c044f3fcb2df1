"""Implicit MAML: the meta-gradient from where adaptation ends, whatever way it took."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from metabench import Episodes, Examples, Network, Workload, setting
from metabench.device import Device
from metabench.engine import (
    Adapted,
    GradientAlgorithm,
    GradientLearner,
    TaskWeights,
    descend,
    gradients,
)


@dataclass(frozen=True, kw_only=True)
class Imaml(GradientAlgorithm):
    """Adapts with a pull towards the starting point, and differentiates the optimum implicitly.

    A. Rajeswaran, C. Finn, S. Kakade, S. Levine: Meta-Learning with Implicit Gradients, NeurIPS 2019,
    algorithms 1 and 2, conjugate gradient for equation 6. Departures: inner steps are plain gradient
    descent, and their number is fixed; `damping`, as in the authors' code, keeps the linear system positive
    where the loss is not convex (0 is the paper's equation), and the solver stops where it still is not.
    With batch norm the evaluation is transductive unless `queries` is "alone".
    """

    name: ClassVar[str] = "imaml"

    inner_rate: float = setting(0.1, "step size of adaptation", above=0)
    steps: int = setting(8, "inner steps in training", at_least=1)
    proximal: float = setting(2.0, "weight of the pull towards the starting point, λ", above=0)
    damping: float = setting(10.0, "added to λ in the linear system alone", at_least=0)
    solver_steps: int = setting(5, "steps of conjugate gradient", at_least=1)

    def build(self, workload: Workload, network: Network | None, device: Device) -> "ImamlLearner":
        """The learner of the whole network's starting point."""
        return ImamlLearner(self, self.module(network, workload, device), workload)


class ImamlLearner(GradientLearner):
    """φᵢ ≈ argmin L(φ; supportᵢ) + λ/2 ‖φ − θ‖²; gᵢ solves (I + ∇²L(φᵢ)/λ) gᵢ = ∇L(φᵢ; queriesᵢ)."""

    def __init__(self, imaml: Imaml, module: nn.Module, workload: Workload) -> None:
        super().__init__(module, workload, imaml)
        self.imaml = imaml

    def adapt(self, support: Examples, steps: int | None = None) -> Adapted:
        """All weights after `steps` gradient steps on the support loss with the proximal term (eq. 3)."""
        start = self.start(len(support.x))

        def loss(weights: TaskWeights) -> Tensor:
            away = [(w - start[n].detach()).square().flatten(1).sum(1) for n, w in weights.items()]
            return self._support_loss(weights, support) + self.imaml.proximal / 2 * torch.stack(away).sum(0)

        steps = self.test_steps if steps is None else steps
        with torch.no_grad():
            return Adapted(descend(loss, start, self.imaml.inner_rate, steps), support.x)

    def _support_loss(self, weights: TaskWeights, support: Examples) -> Tensor:
        return self.loss(self.network(support.x, weights), support.y)

    def task_loss(self, episodes: Episodes, step: int, total: int) -> Tensor:
        """The queries' loss at φ, with gᵢ for its gradient in θ."""
        adapted = self.adapt(episodes.support, self.steps)
        weights = {n: w.detach().requires_grad_() for n, w in adapted.weights.items()}
        losses = self.loss(self.run(episodes.query.x, weights, episodes.support.x), episodes.query.y)
        slope = gradients(losses.sum(), weights, differentiable=False)
        learned = [n for n in weights if n in slope]
        held = {n: weights[n] for n in learned}
        first = gradients(self._support_loss(weights, episodes.support).sum(), held, differentiable=True)

        stiffness = self.imaml.proximal + self.imaml.damping

        def matrix(vector: list[Tensor]) -> list[Tensor]:
            """(I + ∇²L/(λ + damping)) v for each task, by a second derivative in the direction v."""
            bent = torch.autograd.grad(
                [first[n] for n in first],
                [held[n] for n in learned],
                [v for n, v in zip(learned, vector, strict=True) if n in first],
                retain_graph=True,
                materialize_grads=True,
            )
            return [v + h / stiffness for v, h in zip(vector, bent, strict=True)]

        g = conjugate_gradient(matrix, [slope[n] for n in learned], self.imaml.solver_steps)
        start = self.start(len(losses))
        along = torch.stack([(start[n] * v).flatten(1).sum(1) for n, v in zip(learned, g, strict=True)]).sum(
            0
        )
        return losses.detach() + along - along.detach()


def conjugate_gradient(
    matrix: Callable[[list[Tensor]], list[Tensor]], b: list[Tensor], steps: int
) -> list[Tensor]:
    """x with A x ≈ b after `steps` steps from 0, each task on its own: b a list of [T, …].

    A task ends where it is solved, or where A turns out not to be positive (pᵀ A p ≤ 0); its x is what it
    had by then, b if that was at the first step.
    """
    x = [torch.zeros_like(one) for one in b]
    r = p = b
    rr = _dot(r, r)
    going = rr > 0
    begun = torch.zeros_like(going)
    for _ in range(steps):
        ap = matrix(p)
        curvature = _dot(p, ap)
        going = going & (curvature > 0) & (rr > 0)
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
