"""Adam for every task at once: the optimizer of inner steps that no meta-gradient passes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metabench.engine.task_weights import TaskWeights

DECAYS = (0.9, 0.999)
"""β₁ and β₂ of D. Kingma, J. Ba: Adam, ICLR 2015."""
EPSILON = 1e-8


class TaskAdam:
    """Adam for every task at once: it treats each weight by itself, so tasks do not mix.

    squares: second moments to go on from, [T, …] by name, after `steps` steps of which they are the mean.
    """

    def __init__(
        self,
        rate: float,
        decays: tuple[float, float] = DECAYS,
        squares: Mapping[str, Tensor] | None = None,
        steps: int = 0,
    ) -> None:
        self.rate, self.decays, self.steps = rate, decays, steps
        self.means: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = dict(squares or {})

    def stepped(self, weights: TaskWeights, gradients: TaskWeights) -> dict[str, Tensor]:
        """Return the weights after one step; a weight whose gradient is always 0 stays."""
        self.steps += 1
        first, second = (1 - decay**self.steps for decay in self.decays)
        stepped = dict(weights)
        for name, gradient in gradients.items():
            mean = self.means.get(name, torch.zeros_like(gradient)).lerp(gradient, 1 - self.decays[0])
            square = self.squares.get(name, torch.zeros_like(gradient))
            square = square.lerp(gradient.square(), 1 - self.decays[1])
            self.means[name], self.squares[name] = mean, square
            size = (square / second).sqrt() + EPSILON
            stepped[name] = weights[name] - self.rate * (mean / first) / size
        return stepped
