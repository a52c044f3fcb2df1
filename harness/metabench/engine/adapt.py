"""Gradient steps for many tasks at once: what the gradient-based algorithms share.

`inner_steps` adapts, in training and in prediction alike. A task's weights are a mapping from names to
tensors [T, …].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from metabench.contracts import Episodes
from metabench.engine.examples_loss import ExamplesLoss, Rate
from metabench.engine.kernels import kernels_for
from metabench.engine.lift import Lifted, Part
from metabench.engine.task_weights import StartingWeights, TaskWeights

IMAGES_AT_ONCE = 50
"""Images of 28 × 28 in a chunk that torch's operations run on a CPU: more of them leave the cache."""

IMAGES_AT_ONCE_OF_KERNELS = 100
"""The same for the CPU kernels, which take one task at a time into the cache: memory alone bounds a chunk."""

ELEMENTS_AT_ONCE = 32_000_000
"""Elements that a chunk's adaptation may hold for its weights (`held_per_weight`)."""


def expand_weights(module: nn.Module, tasks: int, part: Part = "all") -> TaskWeights:
    """Return the weights of the module, or of its part, for every task to start from: [T, …], not copied.

    Without those that are frozen (`requires_grad` is False): every task has the module's own.
    """
    return starting_weights(dict(module.named_parameters()), tasks, part)


def starting_weights(weights: Mapping[str, Tensor], tasks: int, part: Part = "all") -> StartingWeights:
    """Return `expand_weights` of a module whose weights are at hand by name."""
    return StartingWeights(
        {
            name: weight
            for name, weight in weights.items()
            if weight.requires_grad and (part == "all" or name.startswith(part + "."))
        },
        tasks,
    )


def gradients(loss: Tensor, weights: TaskWeights, *, differentiable: bool) -> dict[str, Tensor]:
    """Return ∂ loss / ∂ weights for those that the loss depends on; differentiable: for a second order."""
    if not weights:  # all of them are frozen
        return {}
    values = torch.autograd.grad(loss, list(weights.values()), create_graph=differentiable, allow_unused=True)
    return {name: value for name, value in zip(weights, values, strict=True) if value is not None}


def constant_gradients(
    loss: Callable[[TaskWeights], Tensor], weights: TaskWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return each task's loss [T] and its gradient by name, both as constants; zeros where it has none."""
    with torch.enable_grad():
        leaves = _leaves(weights)
        losses = loss(leaves)
        values = gradients(losses.sum(), leaves, differentiable=False)
    return losses.detach(), {
        name: values[name] if name in values else torch.zeros_like(leaf) for name, leaf in leaves.items()
    }


def inner_steps(
    loss: Callable[[TaskWeights], Tensor],
    weights: TaskWeights,
    rate: Rate,
    steps: int,
    *,
    first_order: bool = False,
) -> TaskWeights:
    """Return the weights after `steps` gradient steps of each task on its own loss: w ← w − α ∇L(w).

    loss: task weights → [T]; rate: α, the same for all weights, or by name. The result can be
    differentiated with respect to `weights` and `rate` where gradients are recorded; first_order then
    takes each step's ∇L for a constant. Where gradients are not recorded, the result holds no graph.
    """
    rate = float(rate) if isinstance(rate, int) else rate
    if isinstance(loss, ExamplesLoss):
        plain = partial(_steps, loss, steps=steps, first_order=first_order)
        stepped = loss.descend(weights, rate, steps, first_order, plain)
        if stepped is not None:
            return stepped
    return _steps(loss, weights, rate, steps, first_order)


def _steps(
    loss: Callable[[TaskWeights], Tensor], weights: TaskWeights, rate: Rate, steps: int, first_order: bool
) -> dict[str, Tensor]:
    """Take the steps of `inner_steps` by torch's operations."""
    recording = torch.is_grad_enabled()
    for _ in range(steps if weights else 0):
        weights = _step(loss, weights, rate, recording, first_order)
    return dict(weights) if recording else {name: weight.detach() for name, weight in weights.items()}


def _step(
    loss: Callable[[TaskWeights], Tensor],
    weights: TaskWeights,
    rate: Rate,
    recording: bool,
    first_order: bool,
) -> dict[str, Tensor]:
    second_order = recording and not first_order
    with torch.enable_grad():
        inputs = weights if second_order else _leaves(weights)
        gradient = gradients(loss(inputs).sum(), inputs, differentiable=second_order)
    return {
        name: _stepped(weight, gradient.get(name), rate[name] if isinstance(rate, Mapping) else rate)
        for name, weight in weights.items()
    }


def _leaves(weights: TaskWeights) -> dict[str, Tensor]:
    """Return the weights as leaves of a graph of their own."""
    return {name: weight.detach().requires_grad_() for name, weight in weights.items()}


def _stepped(weight: Tensor, gradient: Tensor | None, alpha: float | Tensor) -> Tensor:
    """Return w − α ∇L."""
    if gradient is None:  # the loss does not depend on this weight
        return weight
    if isinstance(alpha, float):  # "add −α" has a shorter derivative than "subtract α"
        return torch.add(weight, gradient, alpha=-alpha)
    return weight - alpha * gradient


def tasks_at_once(episodes: Episodes, lifted: Lifted, held_per_weight: int = 0) -> int:
    """Return how many tasks are quick to run together: all on an accelerator, or without convolutions.

    Otherwise so many images as suit what runs them, in chunks of equal size where that is possible: the size
    follows from shapes, and so do the sums of the gradient.
    held_per_weight: elements that each weight of each task takes besides, which bound the tasks as well.
    """
    tasks, support, *shape = episodes.support.x.shape
    if held_per_weight:
        weights = sum(weight.numel() for weight in lifted.module.parameters())
        return min(tasks, max(1, ELEMENTS_AT_ONCE // (held_per_weight * weights)))
    if not lifted.convolutional or episodes.support.x.device.type != "cpu":
        return tasks
    images = max(support, episodes.query.x.shape[1])
    limit = IMAGES_AT_ONCE if kernels_for(episodes.support.x) is None else IMAGES_AT_ONCE_OF_KERNELS
    most = min(tasks, max(1, limit * 28 * 28 // (images * shape[-1] * shape[-2])))
    equal = max(n for n in range(1, most + 1) if tasks % n == 0)
    return equal if 2 * equal > most else most
