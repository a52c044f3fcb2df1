"""Rules that run a function or a tensor's method for all tasks at once."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from metabench.engine.values import Layout, NoRule, Value


def flatten(x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    """Flatten axes of an example as `torch.flatten` does."""
    dims = len(x.shape)
    start, end = start_dim % dims, end_dim % dims
    if start == 0:
        raise NoRule("flatten over the examples' axis")
    return Value(x.by_task().flatten(start + 1, end + 1), x.tasks)


def reshape(x: Value, *shape: Any) -> Value:
    """Reshape, keeping the examples' axis: `x.view(x.size(0), -1)`, `x.reshape(-1, 64)`."""
    wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else tuple(shape)
    folds = -1 in wanted[:1] and math.prod(wanted[1:]) != math.prod(x.shape[1:])
    if not wanted or wanted[0] not in (-1, x.examples) or folds:
        raise NoRule(f"reshape to {wanted}")
    rows = x.by_task()
    result = rows.reshape(*rows.shape[:2], *wanted[1:])
    return Value(result, x.tasks)


def mean(x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    """Average over axes of an example, not over examples."""
    if dim is None:
        raise NoRule("mean over all axes")
    dims = len(x.shape)
    axes = [d % dims for d in ([dim] if isinstance(dim, int) else dim)]
    if 0 in axes:
        raise NoRule("mean over the examples' axis")
    if x.layout == "grouped" and 1 not in axes:
        return x.like(x.tensor.mean(axes, keepdim=keepdim))
    return Value(x.by_task().mean([a + 1 for a in axes], keepdim=keepdim), x.tasks)


def pointwise(function: Callable[..., Tensor]) -> Callable[..., Value]:
    """Return the rule of arithmetic on values of one shape, or on a value and a number."""

    def apply(*operands: Any, **options: Any) -> Value:
        values = [operand for operand in operands if isinstance(operand, Value)]
        if any(not isinstance(operand, (Value, int, float)) for operand in operands) or options:
            raise NoRule(f"{function.__name__} with a tensor that is no value of a task")
        if len({value.shape for value in values}) != 1:
            raise NoRule(f"{function.__name__} that broadcasts")
        tasks = values[0].tasks
        layouts = {value.layout for value in values}
        layout: Layout = layouts.pop() if len(layouts) == 1 else "task"
        tensors = [
            (operand.tensor if operand.layout == layout else operand.by_task())
            if isinstance(operand, Value)
            else operand
            for operand in operands
        ]
        return Value(function(*tensors), tasks, layout)

    return apply


def activation(function: Callable[..., Tensor]) -> Callable[..., Value]:
    """Return the rule of a function of each element alone, with its options."""

    def apply(x: Value, *arguments: Any, **options: Any) -> Value:
        options.pop("inplace", None)  # results are kept for the backward pass
        return x.like(function(x.tensor, *arguments, **options))

    return apply


def pooling(function: Callable[..., Tensor]) -> Callable[..., Value]:
    """Return the rule of a 2-d pooling function, which treats each channel of each example alike."""

    def apply(x: Value, *arguments: Any, **options: Any) -> Value:
        if options.get("return_indices"):
            raise NoRule("pooling that returns indices")
        if x.layout == "grouped":
            return x.like(function(x.tensor, *arguments, **options))
        return x.from_rows(function(x.rows(), *arguments, **options))

    return apply


def _size(x: Value, dim: int | None = None) -> Any:
    return x.shape if dim is None else x.shape[dim]


_POINTWISE: tuple[Callable[..., Any], ...] = (
    operator.add, operator.sub, operator.mul, operator.truediv, operator.iadd,
    torch.add, torch.sub, torch.mul,
)  # fmt: skip
_ACTIVATIONS: tuple[Callable[..., Any], ...] = (
    F.relu, F.leaky_relu, F.elu, F.selu, F.gelu, F.silu, F.softplus, F.hardtanh, F.relu6, F.mish, F.sigmoid,
    F.tanh, torch.relu, torch.tanh, torch.sigmoid, torch.square, torch.abs, torch.exp, torch.neg,
    operator.neg, torch.sin, torch.cos,
)  # fmt: skip
_POOLINGS: tuple[Callable[..., Any], ...] = (
    F.max_pool2d, torch.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d,
)  # fmt: skip

_PLUS: Mapping[Callable[..., Any], Callable[..., Any]] = {operator.iadd: operator.add}

FUNCTION_RULES: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.flatten: flatten,
    torch.reshape: reshape,
    torch.mean: mean,
    getattr: lambda x, name: x.shape if name == "shape" else _none(f"attribute {name!r}"),
    operator.getitem: lambda x, i: x[i] if isinstance(x, torch.Size) else _none("indexing"),
    len: lambda x: x.examples,
    **{f: pointwise(_PLUS.get(f, f)) for f in _POINTWISE},
    **{f: activation(f) for f in _ACTIVATIONS},
    **{f: pooling(f) for f in _POOLINGS},
}

METHOD_RULES: Mapping[str, Callable[..., Any]] = {
    "flatten": flatten,
    "view": reshape,
    "reshape": reshape,
    "mean": mean,
    "size": _size,
    "contiguous": lambda x: x,
    "relu": activation(torch.relu),
    "relu_": activation(torch.relu),
    "tanh": activation(torch.tanh),
    "sigmoid": activation(torch.sigmoid),
    "add": pointwise(torch.add),
    "mul": pointwise(torch.mul),
}


def _none(what: str) -> Any:
    raise NoRule(what)
