"""Inner steps of perceptrons by the compiled kernels: all steps of all tasks in one call.

A perceptron's weights are a sequence of tensors, [T, outputs, inputs] and [T, outputs] of each layer in turn.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metabench.engine.kernels.binding import Kernels, threads

MOST_WIDTHS = 17  # of `Shape`

Tensors = tuple[Tensor, ...]


class Descent(NamedTuple):
    """What the steps go down: the mean loss of each task's examples.

    kernels: of the float type of all tensors; widths: of the input and of each layer; x: [T, n, inputs];
    y: class numbers [T, n], or [T, n, outputs] for the squared error.
    """

    kernels: Kernels
    widths: tuple[int, ...]
    x: Tensor
    y: Tensor


class Steps(NamedTuple):
    """How many steps, how large where no rates are given, and whether each gradient is taken for a constant.

    plain: the same steps by torch's operations, from weights and rates; differentiated for higher orders.
    """

    number: int
    rate: float
    first_order: bool
    plain: Callable[[Tensors, Tensors], Tensors]


def descend(descent: Descent, steps: Steps, weights: Sequence[Tensor], rates: Sequence[Tensor]) -> Tensors:
    """Return the weights after gradient steps, w ← w − rate ∘ ∇L(w), differentiable in weights and rates.

    rates: of each weight's shape, expanded or not; none: `steps.rate` for all.
    """
    tensors = (*weights, *rates)
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)):
        return _views(descent, _path(descent, steps, weights, rates, keep=False)[:, 0])
    return _Descent.apply(descent, steps, *tensors)  # type: ignore[no-any-return]


def task_losses(descent: Descent, weights: Sequence[Tensor], plain: Callable[[Tensors], Tensors]) -> Tensor:
    """Return each task's loss, [T]; plain: the same by torch's operations, in a tuple."""
    if not (torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)):
        return _losses(descent, weights, None)
    return _Loss.apply(descent, plain, *weights)  # type: ignore[no-any-return]


class _Descent(torch.autograd.Function):
    """(weights, rates) → weights after the steps."""

    @staticmethod
    def forward(ctx: Any, descent: Descent, steps: Steps, *tensors: Tensor) -> Tensors:
        weights, rates = _parts(descent, tensors)
        of_rates = any(ctx.needs_input_grad[2 + len(weights) :])
        path = _path(descent, steps, weights, rates, keep=not steps.first_order or of_rates)
        ctx.save_for_backward(*tensors)
        ctx.how = descent, steps, path, of_rates
        ctx.set_materialize_grads(False)
        return _views(descent, path[:, -1])

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor | None) -> Any:
        descent, steps, path, of_rates = ctx.how
        if torch.is_grad_enabled():
            plain = lambda tensors: steps.plain(*_parts(descent, tensors))  # noqa: E731  # two arguments from one
            return None, None, *_differentiable(plain, ctx.saved_tensors, incoming)
        if steps.first_order and not of_rates:
            return None, None, *incoming, *[None] * (len(ctx.saved_tensors) - len(incoming))
        _, rates = _parts(descent, ctx.saved_tensors)
        x, y = descent.x, descent.y
        gradient = x.new_empty(path[:, 0].shape)
        rates_gradient = torch.empty_like(gradient) if of_rates else None
        descent.kernels.code.descend_pullback(
            _shape(descent), _strided(incoming), _rates(descent, steps, rates), x.data_ptr(), y.data_ptr(),
            steps.number, not steps.first_order, path.data_ptr(), gradient.data_ptr(),
            _pointer(rates_gradient), threads(),
        )  # fmt: skip
        to_rates = [None] * len(rates) if rates_gradient is None else _views(descent, rates_gradient)
        return None, None, *_views(descent, gradient), *to_rates


def _parts(descent: Descent, tensors: Sequence[Tensor]) -> tuple[Tensors, Tensors]:
    """Return weights and rates."""
    count = 2 * (len(descent.widths) - 1)
    return tuple(tensors[:count]), tuple(tensors[count:])


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class _Loss(torch.autograd.Function):
    """weights → losses [T]; the gradient is computed with them."""

    @staticmethod
    def forward(ctx: Any, descent: Descent, plain: Callable[[Tensors], Tensors], *weights: Tensor) -> Tensor:
        gradient = descent.x.new_empty(len(descent.x), _size(descent))
        losses = _losses(descent, weights, gradient)
        ctx.save_for_backward(*weights)
        ctx.how = descent, plain, gradient
        return losses

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> Any:
        descent, plain, gradient = ctx.how
        if torch.is_grad_enabled():
            return None, None, *_differentiable(plain, ctx.saved_tensors, (incoming,))
        return None, None, *_views(descent, gradient * incoming[:, None])


def _differentiable(
    plain: Callable[[Tensors], Tensors], inputs: Sequence[Tensor], incoming: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    """Return the gradient of the inputs with a graph, by torch's operations."""
    pairs = [(y, g) for y, g in zip(plain(tuple(inputs)), incoming, strict=True) if g is not None]
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    outputs, gradients = zip(*pairs, strict=True)
    values = iter(torch.autograd.grad(outputs, wanted, gradients, create_graph=True, allow_unused=True))
    return [next(values) if tensor.requires_grad else None for tensor in inputs]


def _path(
    descent: Descent, steps: Steps, weights: Sequence[Tensor], rates: Sequence[Tensor], keep: bool
) -> Tensor:
    """Return the weights before every step and after the last, [T, steps + 1, size]; not keep: the last."""
    x, y = descent.x, descent.y
    path = x.new_empty(len(x), steps.number + 1 if keep else 1, _size(descent))
    descent.kernels.code.descend(
        _shape(descent), _strided(weights), _rates(descent, steps, rates), x.data_ptr(), y.data_ptr(),
        steps.number, keep,
        path.data_ptr(), threads(),
    )  # fmt: skip
    return path


def _losses(descent: Descent, weights: Sequence[Tensor], gradient: Tensor | None) -> Tensor:
    losses = descent.x.new_empty(len(descent.x))
    descent.kernels.code.task_loss(
        _shape(descent), _strided(weights), descent.x.data_ptr(), descent.y.data_ptr(), losses.data_ptr(),
        _pointer(gradient), threads(),
    )  # fmt: skip
    return losses


def _strided(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_int64]:
    """Return where the kernels find each tensor's numbers: `Strided`."""
    numbers: list[int] = []
    for tensor in tensors:
        if tensor is None:
            numbers += 0, 0, 0, 0
        else:
            numbers += (tensor.data_ptr(), *tensor.stride(), *[0] * (3 - tensor.dim()))
    return (ctypes.c_int64 * len(numbers))(*numbers)


def _rates(descent: Descent, steps: Steps, rates: Sequence[Tensor]) -> ctypes.Array[ctypes.c_int64]:
    """Return where the kernels find the rates: `Strided`, with strides of zero for a single number."""
    if rates:
        return _strided(rates)
    pointer = _number(steps.rate, descent.x.dtype).data_ptr()
    tensors = 2 * (len(descent.widths) - 1)
    return (ctypes.c_int64 * (4 * tensors))(*[pointer, 0, 0, 0] * tensors)


@lru_cache(maxsize=64)
def _number(value: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor(value, dtype=dtype)


def _shape(descent: Descent) -> ctypes.Array[ctypes.c_int64]:
    tasks, examples, _ = descent.x.shape
    return _shape_of(tasks, examples, not descent.y.is_floating_point(), descent.widths)


@lru_cache(maxsize=1024)
def _shape_of(
    tasks: int, examples: int, classes: bool, widths: tuple[int, ...]
) -> ctypes.Array[ctypes.c_int64]:
    numbers = (tasks, examples, len(widths) - 1, classes, *widths)
    return (ctypes.c_int64 * (4 + MOST_WIDTHS))(*numbers)


def _pitch(descent: Descent, inputs: int) -> int:
    lanes = descent.kernels.lanes
    return -(-(inputs + 1) // lanes) * lanes


def _size(descent: Descent) -> int:
    return sum(_pitch(descent, inputs) * outputs for inputs, outputs in pairwise(descent.widths))


def _views(descent: Descent, packed: Tensor) -> Tensors:
    """Return [T, size] in the kernels' layout as tensors of weights and biases, not copied."""
    views: list[Tensor] = []
    tasks, stride, offset = len(packed), packed.stride(0), packed.storage_offset()
    for inputs, outputs in pairwise(descent.widths):
        pitch = _pitch(descent, inputs)
        views.append(packed.as_strided((tasks, outputs, inputs), (stride, pitch, 1), offset))
        views.append(packed.as_strided((tasks, outputs), (stride, pitch), offset + inputs))
        offset += pitch * outputs
    return tuple(views)
