"""Inner steps of perceptrons by the compiled kernels: all steps of all tasks in one call.

A perceptron's weights are a sequence of tensors, [T, outputs, inputs] and [T, outputs] of each layer in turn,
without T where all tasks have the same ones; or one tensor [T, size] in the kernels' layout: packed.
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
    """Gradient steps down a task's loss, w ← w − rate ∘ ∇L(w).

    down: the loss; number: of steps; rate: their size where no rates are given; first_order: take each
    gradient for a constant; plain: the same steps by torch's operations, from weights and rates;
    differentiated for higher orders.
    """

    down: Descent
    number: int
    rate: float
    first_order: bool
    plain: Callable[[Tensors, Tensors], Tensors]


def no_steps(query: Descent) -> Steps:
    """Return the steps after which weights are as they were."""
    return Steps(query, 0, 0.0, True, lambda weights, rates: weights)


class Start(NamedTuple):
    """Where steps start, and how large they are.

    weights: of each task, of all tasks (without the axis of tasks), or one tensor of packed ones; rates: of
    each task or of all, expanded or not; none: `Steps.rate` for all.
    """

    weights: Tensors
    rates: Tensors = ()

    @property
    def tensors(self) -> Tensors:
        """Return weights and rates."""
        return (*self.weights, *self.rates)

    @property
    def recorded(self) -> bool:
        """Return whether torch records what is computed of them."""
        return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in self.tensors)


def descend(steps: Steps, start: Start) -> Tensor:
    """Return the weights after the steps, packed; differentiable in weights and rates."""
    if not start.recorded:
        return _stepped(steps, start)
    return _Descent.apply(steps, len(start.weights), *start.tensors)  # type: ignore[no-any-return]


def adapted_losses(steps: Steps, start: Start, query: Descent, plain: Callable[[Tensors], Tensor]) -> Tensor:
    """Return each task's loss on its queries after the steps, [T], differentiable in weights and rates.

    plain: the loss of stepped weights by torch's operations.
    """
    if not start.recorded:
        return _passes(steps, start, query, differentiated=False).losses
    return _AdaptedLoss.apply(steps, len(start.weights), query, plain, *start.tensors)  # type: ignore[no-any-return]


class _Descent(torch.autograd.Function):
    """(weights, rates) → weights after the steps, packed; count: how many tensors are weights."""

    @staticmethod
    def forward(ctx: Any, steps: Steps, count: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.how = steps, count, any(ctx.needs_input_grad[2 + count :])
        return _stepped(steps, Start(tensors[:count], tensors[count:]))

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> Any:
        steps, count, of_rates = ctx.how
        tensors = ctx.saved_tensors
        start = Start(tensors[:count], tensors[count:])
        if torch.is_grad_enabled():
            plain = lambda tensors: _packed(steps.down, steps.plain(tensors[:count], tensors[count:]))  # noqa: E731  # of one argument
            return None, None, *_differentiable(plain, tensors, incoming)
        if steps.first_order and not of_rates:
            return None, None, *_like(steps.down, incoming, start.weights), *[None] * len(start.rates)
        passes = _passes(steps, start, incoming.contiguous(), of_rates=of_rates)
        return None, None, *passes.gradients(steps.down, start)


class _AdaptedLoss(torch.autograd.Function):
    """(weights, rates) → losses [T] of queries after the steps; the gradient is computed with them."""

    @staticmethod
    def forward(
        ctx: Any,
        steps: Steps,
        count: int,
        query: Descent,
        plain: Callable[[Tensors], Tensor],
        *tensors: Tensor,
    ) -> Tensor:
        of_rates = any(ctx.needs_input_grad[4 + count :])
        passes = _passes(steps, Start(tensors[:count], tensors[count:]), query, of_rates)
        ctx.save_for_backward(*tensors)
        ctx.how = steps, count, plain, passes
        return passes.losses

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> Any:
        steps, count, plain, passes = ctx.how
        tensors = ctx.saved_tensors
        if torch.is_grad_enabled():
            losses = lambda tensors: plain(steps.plain(tensors[:count], tensors[count:]))  # noqa: E731  # of one argument
            return None, None, None, None, *_differentiable(losses, tensors, incoming)
        start = Start(tensors[:count], tensors[count:])
        return None, None, None, None, *passes.gradients(steps.down, start, incoming)


class _Passes(NamedTuple):
    """What `adapted_loss` leaves: losses [T], gradients of weights and of rates [T, size], or None."""

    losses: Tensor
    gradient: Tensor | None
    of_rates: Tensor | None

    def gradients(
        self, descent: Descent, start: Start, scale: Tensor | None = None
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of weights and rates in their shapes, each task's times its scale."""
        assert self.gradient is not None
        to_weights = _like(descent, self.gradient, start.weights, scale)
        if self.of_rates is None:
            return *to_weights, *[None] * len(start.rates)
        return *to_weights, *_like(descent, self.of_rates, start.rates, scale)


def _passes(
    steps: Steps, start: Start, last: Descent | Tensor, of_rates: bool = False, differentiated: bool = True
) -> _Passes:
    """Take the steps, then the loss of queries, or the incoming gradient of the last weights, and go back."""
    kernels, widths, x, y = steps.down
    query = steps.down if isinstance(last, Tensor) else last
    losses = x.new_empty(len(x))
    gradient = x.new_empty(len(x), _layout(kernels.lanes, widths)[1]) if differentiated else None
    rates_gradient = torch.empty_like(gradient) if of_rates and gradient is not None else None
    kernels.code.adapted_loss(
        _shape(steps.down), _shape(query), _strided(steps.down, start.weights), _rates(steps, start),
        _strided(query, [last]) if isinstance(last, Tensor) else None, x.data_ptr(), y.data_ptr(),
        query.x.data_ptr(), query.y.data_ptr(), steps.number, not steps.first_order, losses.data_ptr(),
        _pointer(gradient), _pointer(rates_gradient), threads(),
    )  # fmt: skip
    return _Passes(losses, gradient, rates_gradient)


def _stepped(steps: Steps, start: Start) -> Tensor:
    """Return each task's weights after the steps, [T, size]."""
    kernels, widths, x, y = steps.down
    stepped = x.new_empty(len(x), _layout(kernels.lanes, widths)[1])
    kernels.code.descend(
        _shape(steps.down), _strided(steps.down, start.weights), _rates(steps, start), x.data_ptr(),
        y.data_ptr(), steps.number, stepped.data_ptr(), threads(),
    )  # fmt: skip
    return stepped


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _like(
    descent: Descent, gradient: Tensor, tensors: Sequence[Tensor], scale: Tensor | None = None
) -> Tensors:
    """Return packed gradients [T, size] as those of the tensors, summed for what all tasks have in common.

    scale: [T], what each task's are multiplied by.
    """
    shapes = shapes_of(descent.widths)
    of_all = len(tensors) > 1 and [tensor.dim() for tensor in tensors] == [len(shape) for shape in shapes]
    if of_all:
        summed = gradient.sum(0, keepdim=True) if scale is None else scale[None] @ gradient
        return tuple(value[0] for value in unpacked(descent.kernels, descent.widths, summed))
    gradient = gradient if scale is None else gradient * scale[:, None]
    if len(tensors) == 1:
        return (gradient,)
    gradient = gradient.contiguous()
    own = unpacked(descent.kernels, descent.widths, gradient)
    return tuple(
        value.sum(0) if tensor.dim() == len(shape) else value
        for value, tensor, shape in zip(own, tensors, shapes, strict=True)
    )


def _differentiable(
    plain: Callable[[Tensors], Tensor], inputs: Sequence[Tensor], incoming: Tensor
) -> Sequence[Tensor | None]:
    """Return the gradient of the inputs with a graph, by torch's operations."""
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    values = iter(
        torch.autograd.grad(plain(tuple(inputs)), wanted, incoming, create_graph=True, allow_unused=True)
    )
    return [next(values) if tensor.requires_grad else None for tensor in inputs]


def _strided(descent: Descent, tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_int64]:
    """Return where the kernels find each tensor's numbers: `Strided`, for packed ones too."""
    numbers: list[int] = []
    if len(tensors) == 1:
        (packed,) = tensors
        packed = packed if packed.stride(1) == 1 else packed.contiguous()
        start, task, item = packed.data_ptr(), packed.stride(0), packed.element_size()
        for offset, pitch, inputs in _layout(descent.kernels.lanes, descent.widths)[0]:
            numbers += start + item * offset, task, pitch, 1
            numbers += start + item * (offset + inputs), task, pitch, 0
    else:
        for tensor, shape in zip(tensors, shapes_of(descent.widths), strict=True):
            strides = [*[0] * (len(shape) + 1 - tensor.dim()), *tensor.stride(), *[0] * (2 - len(shape))]
            numbers += tensor.data_ptr(), *strides
    return (ctypes.c_int64 * len(numbers))(*numbers)


def _rates(steps: Steps, start: Start) -> ctypes.Array[ctypes.c_int64]:
    """Return where the kernels find the rates: `Strided`, with strides of zero for a single number."""
    if start.rates:
        return _strided(steps.down, start.rates)
    pointer = _number(steps.rate, steps.down.x.dtype).data_ptr()
    tensors = 2 * (len(steps.down.widths) - 1)
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


@lru_cache(maxsize=64)
def shapes_of(widths: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a perceptron's weights and biases in turn, without the axis of tasks."""
    return tuple(shape for i, o in pairwise(widths) for shape in ((o, i), (o,)))


@lru_cache(maxsize=64)
def _layout(lanes: int, widths: tuple[int, ...]) -> tuple[list[tuple[int, int, int]], int]:
    """Return (offset, pitch, inputs) of each layer's matrix in a task's packed weights, and their size."""
    layers, offset = [], 0
    for inputs, outputs in pairwise(widths):
        pitch = -(-(inputs + 1) // lanes) * lanes
        layers.append((offset, pitch, inputs))
        offset += pitch * outputs
    return layers, offset


def unpacked(kernels: Kernels, widths: tuple[int, ...], packed: Tensor) -> Tensors:
    """Return [T, size] in the kernels' layout as weights and biases, differentiable, not copied."""
    tensors: list[Tensor] = []
    layers, _ = _layout(kernels.lanes, widths)
    plain, (task, _) = not (packed.requires_grad and torch.is_grad_enabled()), packed.stride()
    for (offset, pitch, inputs), outputs in zip(layers, widths[1:], strict=True):
        if plain:  # one call a tensor
            first, shape = packed.storage_offset() + offset, (len(packed), outputs)
            tensors.append(packed.as_strided((*shape, inputs), (task, pitch, 1), first))
            tensors.append(packed.as_strided(shape, (task, pitch), first + inputs))
            continue
        matrix = packed[:, offset : offset + pitch * outputs].view(-1, outputs, pitch)
        tensors += matrix[:, :, :inputs], matrix[:, :, inputs]
    return tuple(tensors)


def _packed(descent: Descent, tensors: Sequence[Tensor]) -> Tensor:
    """Return weights and biases [T, …] in the kernels' layout, [T, size], by torch's operations."""
    layers, _ = _layout(descent.kernels.lanes, descent.widths)
    parts = []
    for i, (_, pitch, inputs) in enumerate(layers):
        matrix = torch.cat([tensors[2 * i], tensors[2 * i + 1].unsqueeze(2)], 2)
        parts.append(torch.nn.functional.pad(matrix, (0, pitch - inputs - 1)).flatten(1))
    return torch.cat(parts, 1)
