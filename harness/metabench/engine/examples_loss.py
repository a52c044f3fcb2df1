"""The loss of a task's examples as a function of its weights, by kernels where one covers the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metabench.contracts import Examples
from metabench.engine.convolution import product_type
from metabench.engine.kernels import kernels_for
from metabench.engine.kernels import perceptron as kernel
from metabench.engine.lift import Lifted

TaskWeights = Mapping[str, Tensor]
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
        descent, names = self._descent(weights)
        if descent is None:
            return self.plain(weights)
        tensors = [weights[name] for name in names]
        return kernel.task_losses(
            descent, tensors, lambda values: (self.plain(dict(zip(names, values, strict=True))),)
        )

    def descend(
        self,
        weights: TaskWeights,
        rate: Rate,
        steps: int,
        first_order: bool,
        plain: Callable[[TaskWeights, Rate], TaskWeights],
    ) -> dict[str, Tensor] | None:
        """Return the weights after so many steps down the loss, or None where no kernel covers it.

        plain: the same steps by torch's operations, from weights and rates.
        """
        descent, names = self._descent(weights)
        if descent is None or steps == 0:
            return None
        rates = [] if isinstance(rate, float) else _rates(rate, weights, names)
        if any(tensor.dtype != descent.x.dtype for tensor in rates):
            return None

        def by_operations(start: tuple[Tensor, ...], rates: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            by_name = dict(zip(names, rates, strict=True)) if rates else rate
            stepped = plain(dict(zip(names, start, strict=True)), by_name)
            return tuple(stepped[name] for name in names)

        number = rate if isinstance(rate, float) else 0.0
        how = kernel.Steps(steps, number, first_order, by_operations)
        stepped = kernel.descend(descent, how, [weights[name] for name in names], rates)
        by_name = dict(zip(names, stepped, strict=True))
        return {name: by_name[name] for name in weights}

    def _descent(self, weights: TaskWeights) -> tuple[kernel.Descent | None, tuple[str, ...]]:
        x, y = self.examples
        perceptron = self.network.perceptron
        kernels = kernels_for(x) if perceptron is not None else None
        if (
            perceptron is None
            or kernels is None  # before any element is read, for which a GPU would be waited for
            or self.kind == "other"
            or not perceptron.fits(x, weights)
            or not self._fits(y, (*x.shape[:2], perceptron.widths[-1]))
            or not _plain_type(x, y, weights)
        ):
            return None, ()
        self.network.note_kernels()
        rows = x.flatten(2).contiguous()
        return kernel.Descent(kernels, perceptron.widths, rows, y.contiguous()), perceptron.names

    def _fits(self, y: Tensor, predictions: tuple[int, ...]) -> bool:
        """Return whether these are targets for predictions of this shape: values, or numbers of classes."""
        if self.kind == "regression":
            return y.shape == predictions
        return y.dtype == torch.long and y.shape == predictions[:-1] and _within(y, predictions[-1])


def _within(classes: Tensor, ways: int) -> bool:
    """Return whether all class numbers are in 0..ways - 1; others are for torch to refuse."""
    return bool(((classes >= 0) & (classes < ways)).all())


def _plain_type(x: Tensor, y: Tensor, weights: TaskWeights) -> bool:
    """Return whether all is of one float type, and neither input nor target is to be differentiated."""
    tensors = [x, *weights.values(), *([y] if y.is_floating_point() else [])]
    return (
        all(tensor.dtype == x.dtype for tensor in tensors)
        and product_type(x) == x.dtype
        and not x.requires_grad
        and not y.requires_grad
    )


def _rates(rate: Tensor | Mapping[str, Tensor], weights: TaskWeights, names: tuple[str, ...]) -> list[Tensor]:
    """Return the step size of each weight, expanded to its shape."""
    by_name = rate if isinstance(rate, Mapping) else dict.fromkeys(names, rate)
    return [by_name[name].expand(weights[name].shape) for name in names]
