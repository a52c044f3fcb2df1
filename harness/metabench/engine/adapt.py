"""Gradient steps for many tasks at once: what the gradient-based algorithms share.

`descend` takes inner steps, in training and in prediction alike. A task's weights are a mapping from
names to tensors [T, …].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from metabench.contracts import Episodes
from metabench.engine.lift import Lifted, Part

TaskWeights = Mapping[str, Tensor]
Rate = float | Tensor | Mapping[str, Tensor]
IMAGES_AT_ONCE = 50
"""Images of 28 × 28 that a chunk holds on the CPU: more of them leave the cache, and then fault pages."""

NUMBERS_AT_ONCE = 32_000_000
"""Numbers that a chunk's adaptation may hold for its weights (`held_per_weight`)."""


def spread(module: nn.Module, tasks: int, part: Part = "all") -> dict[str, Tensor]:
    """The weights of the module, or of its part, as every task's starting point: [T, …], not copied."""
    return {
        name: weight.expand(tasks, *weight.shape)
        for name, weight in module.named_parameters()
        if part == "all" or name.startswith(part + ".")
    }


def gradients(loss: Tensor, weights: TaskWeights, *, differentiable: bool) -> dict[str, Tensor]:
    """∂ loss / ∂ weights for those that the loss depends on; differentiable: for a second order."""
    found = torch.autograd.grad(loss, list(weights.values()), create_graph=differentiable, allow_unused=True)
    return {n: g for n, g in zip(weights, found, strict=True) if g is not None}


def constant_gradients(
    loss: Callable[[TaskWeights], Tensor], weights: TaskWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """Each task's loss [T] and its gradient by name, both as constants; zeros where it has none."""
    with torch.enable_grad():
        held = {n: w.detach().requires_grad_() for n, w in weights.items()}
        losses = loss(held)
        found = gradients(losses.sum(), held, differentiable=False)
    return losses.detach(), {n: found[n] if n in found else torch.zeros_like(w) for n, w in held.items()}


def descend(
    loss: Callable[[TaskWeights], Tensor],
    weights: TaskWeights,
    rate: Rate,
    steps: int,
    *,
    first_order: bool = False,
) -> dict[str, Tensor]:
    """The weights after `steps` gradient steps of each task on its own loss: w ← w − α ∇L(w).

    loss: task weights → [T]; rate: α, one for all, or by name. The result can be differentiated with
    respect to `weights` and `rate` where gradients are recorded; first_order then takes each step's ∇L
    for a constant. Elsewhere the result holds no graph.
    """
    recording = torch.is_grad_enabled()
    for _ in range(steps):
        weights = _step(loss, weights, rate, recording, first_order)
    return dict(weights) if recording else {n: w.detach() for n, w in weights.items()}


def _step(
    loss: Callable[[TaskWeights], Tensor],
    weights: TaskWeights,
    alpha: Rate,
    recording: bool,
    first_order: bool,
) -> dict[str, Tensor]:
    second_order = recording and not first_order
    with torch.enable_grad():
        held = weights if second_order else {n: w.detach().requires_grad_() for n, w in weights.items()}
        slope = gradients(loss(held).sum(), held, differentiable=second_order)
    return {n: _moved(w, slope.get(n), alpha[n] if isinstance(alpha, Mapping) else alpha)
            for n, w in weights.items()}  # fmt: skip


def _moved(weight: Tensor, slope: Tensor | None, alpha: float | Tensor) -> Tensor:
    if slope is None:  # the loss does not depend on this weight
        return weight
    # "add −α" has a shorter derivative than "subtract α"
    return torch.add(weight, slope, alpha=-alpha) if isinstance(alpha, float) else weight - alpha * slope


def tasks_at_once(episodes: Episodes, lifted: Lifted, held_per_weight: int = 0) -> int:
    """How many tasks are quick to run together: all of them on an accelerator, or without convolutions.

    Otherwise as many images as the caches of a CPU hold, in chunks of equal size where that is possible.
    held_per_weight: numbers that each weight of each task takes besides, which bound the tasks as well.
    """
    tasks, support, *shape = episodes.support.x.shape
    if held_per_weight:
        weights = sum(weight.numel() for weight in lifted.module.parameters())
        return min(tasks, max(1, NUMBERS_AT_ONCE // (held_per_weight * weights)))
    if not lifted.convolutional or episodes.support.x.device.type != "cpu":
        return tasks
    images = max(support, episodes.query.x.shape[1])
    most = min(tasks, max(1, IMAGES_AT_ONCE * 28 * 28 // (images * shape[-1] * shape[-2])))
    equal = max(n for n in range(1, most + 1) if tasks % n == 0)
    return equal if 2 * equal > most else most
