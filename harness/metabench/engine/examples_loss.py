"""The loss of a task's examples as a function of its weights, by kernels where one covers the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from metabench.contracts import Examples
from metabench.engine.convolution import product_type
from metabench.engine.kernels import kernels_for
from metabench.engine.kernels import perceptron as kernel
from metabench.engine.lift import Lifted
from metabench.engine.perceptron import Perceptron
from metabench.engine.task_weights import PackedWeights, StartingWeights, TaskWeights, tensors_of

Rate = float | Tensor | Mapping[str, Tensor]


@dataclass(frozen=True)
class ExamplesLoss:
    """The loss [T] of each task's weights on given examples, as a function of weights.

    network: what predicts; kind: "classification" for the cross entropy, "regression" for the squared error,
    "other" for any; examples: of all tasks; plain: the same loss by torch's operations, for what no kernel
    covers.
    """

    network: Lifted
    kind: Literal["classification", "regression", "other"]
    examples: Examples
    plain: Callable[[TaskWeights], Tensor]

    def __call__(self, weights: TaskWeights) -> Tensor:
        """Return the losses, [T], by torch's operations."""
        return self.plain(weights)

    def once(self, weights: TaskWeights) -> Tensor:
        """Return the losses, [T]; quick for a first derivative, and slow for a second one."""
        covered = self._covered(weights)
        if covered is None:
            return self.plain(weights)
        descent, _ = covered
        if isinstance(weights, PackedWeights) and weights.unread and torch.is_grad_enabled():
            steps, start = weights.steps, weights.start
        else:
            steps, start = kernel.no_steps(descent), kernel.Start(covered.tensors(weights))
        return kernel.adapted_losses(steps, start, descent, lambda values: self.plain(covered.named(values)))

    def descend(
        self,
        weights: TaskWeights,
        rate: Rate,
        steps: int,
        first_order: bool,
        plain: Callable[[TaskWeights, Rate], TaskWeights],
    ) -> PackedWeights | None:
        """Return the weights after so many steps down the loss, or None where no kernel covers it.

        plain: the same steps by torch's operations, from weights and rates.
        """
        covered = self._covered(weights) if steps else None
        if covered is None:
            return None
        tensors = covered.tensors(weights)
        rates = () if isinstance(rate, float) else covered.rates(rate, shared=tensors[0].dim() == 2)
        if any(tensor.dtype != covered.descent.x.dtype for tensor in rates):
            return None

        def by_operations(start: tuple[Tensor, ...], rates: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            stepped = plain(covered.named(start), covered.named(rates) if rates else rate)
            return tuple(stepped[name] for name in covered.perceptron.names)

        number = rate if isinstance(rate, float) else 0.0
        how = kernel.Steps(covered.descent, steps, number, first_order, by_operations)
        return PackedWeights(how, kernel.Start(tensors, rates), covered.perceptron, tuple(weights))

    def _covered(self, weights: TaskWeights) -> _Covered | None:
        """Return how kernels compute this loss of such weights, or None where they do not."""
        x, y = self.examples
        perceptron = self.network.perceptron
        kernels = kernels_for(x) if perceptron is not None else None
        if (
            perceptron is None
            or kernels is None  # before any element is read, for which a GPU would be waited for
            or self.kind == "other"
            or not _fit(perceptron, x, weights)
            or not self._fits(y, (*x.shape[:2], perceptron.widths[-1]))
            or not _plain_type(x, y, weights)
        ):
            return None
        self.network.note_kernels()
        rows = x.flatten(2).contiguous()
        descent = kernel.Descent(kernels, perceptron.widths, rows, y.contiguous())
        return _Covered(descent, perceptron)

    def _fits(self, y: Tensor, predictions: tuple[int, ...]) -> bool:
        """Return whether these are targets for predictions of this shape: values, or numbers of classes."""
        if self.kind == "regression":
            return y.shape == predictions
        return y.dtype == torch.long and y.shape == predictions[:-1] and _within(y, predictions[-1])


def _fit(perceptron: Perceptron, x: Tensor, weights: TaskWeights) -> bool:
    """Return whether x is [T, n, *input] and `weights` are all of the network's, for T tasks."""
    if isinstance(weights, PackedWeights):
        return (
            len(weights.steps.down.x) == len(x) and weights.perceptron == perceptron and perceptron.reads(x)
        )
    if isinstance(weights, StartingWeights) and weights.unread:
        return weights.tasks == len(x) and perceptron.fits(x, weights.own, ())
    return perceptron.fits(x, weights, (len(x),))


def _within(classes: Tensor, ways: int) -> bool:
    """Return whether all class numbers are in 0..ways - 1; others are for torch to refuse."""
    return bool(((classes >= 0) & (classes < ways)).all())


def _plain_type(x: Tensor, y: Tensor, weights: TaskWeights) -> bool:
    """Return whether all is of one float type, and neither input nor target is to be differentiated."""
    tensors = [x, *tensors_of(weights), *([y] if y.is_floating_point() else [])]
    return (
        all(tensor.dtype == x.dtype for tensor in tensors)
        and product_type(x) == x.dtype
        and not x.requires_grad
        and not y.requires_grad
    )


class _Covered(NamedTuple):
    """A loss that kernels compute."""

    descent: kernel.Descent
    perceptron: Perceptron

    def tensors(self, weights: TaskWeights) -> tuple[Tensor, ...]:
        """Return the weights as kernels read them: packed, of all tasks [o, i], or of each [T, o, i]."""
        if isinstance(weights, PackedWeights):
            return (weights.packed,)
        if isinstance(weights, StartingWeights) and weights.unread:
            weights = weights.own
        return tuple(weights[name] for name in self.perceptron.names)

    def rates(self, rate: Tensor | Mapping[str, Tensor], shared: bool) -> tuple[Tensor, ...]:
        """Return the step size of each weight, expanded to its shape; shared: of all tasks where it is."""
        by_name = rate if isinstance(rate, Mapping) else dict.fromkeys(self.perceptron.names, rate)
        shapes = kernel.shapes_of(self.descent.widths)
        tasks = len(self.descent.x)
        return tuple(
            by_name[name].expand(shape if shared and by_name[name].dim() <= len(shape) else (tasks, *shape))
            for name, shape in zip(self.perceptron.names, shapes, strict=True)
        )

    def named(self, values: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Return what `tensors` or `rates` have returned, or its like, as each task's weights by name."""
        kernels, widths, x, _ = self.descent
        tensors = kernel.unpacked(kernels, widths, values[0]) if len(values) == 1 else values
        tasks, shapes = len(x), kernel.shapes_of(widths)
        return {
            name: tensor.expand(tasks, *shape)
            for name, tensor, shape in zip(self.perceptron.names, tensors, shapes, strict=True)
        }
