"""Rules that run one layer for all tasks at once: what makes an ordinary module batched over tasks.

A value inside a network is kept in one of three layouts, and each rule takes the one that suits it:
by task   [T, n, …]            a row per example;
grouped   [n, T·C, …]          tasks side by side in the channel axis, as a grouped convolution wants them;
last      [T, n, H, W, C]      channels last, as the CPU kernels want them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench.engine import normalisation
from metabench.engine.convolution import Geometry, product_type, shared_convolution, task_convolution
from metabench.engine.kernels import Kernels, kernels_for
from metabench.engine.kernels import differentiable as kernel
from metabench.engine.kernels.binding import Sliding

Layout = Literal["task", "grouped", "last"]


class NoRule(Exception):  # noqa: N818 - it ends the search for rules and is no error
    """A network has an operation that no rule covers; the text names it."""


@dataclass(frozen=True)
class Value:
    """A tensor over tasks in one of the three layouts."""

    tensor: Tensor
    tasks: int
    layout: Layout = "task"

    @property
    def examples(self) -> int:
        """Return how many examples each task has."""
        return self.tensor.shape[0 if self.layout == "grouped" else 1]

    @property
    def shape(self) -> torch.Size:
        """Return the shape that the network's own code sees, for one task: [n, …]."""
        first, *rest = self.tensor.shape
        if self.layout == "task":
            return torch.Size(rest)
        if self.layout == "last":
            n, *plane, channels = rest
            return torch.Size((n, channels, *plane))
        return torch.Size((first, rest[0] // self.tasks, *rest[1:]))

    def by_task(self) -> Tensor:
        """Return [T, n, …]; a view where the layout allows it."""
        if self.layout == "task":
            return self.tensor
        if self.layout == "last":
            return self.tensor.movedim(-1, 2)
        n, channels, *rest = self.tensor.shape
        return self.tensor.view(n, self.tasks, channels // self.tasks, *rest).transpose(0, 1)

    def in_groups(self) -> Tensor:
        """Return [n, T·C, …]."""
        if self.layout == "grouped":
            return self.tensor
        return self.by_task().transpose(0, 1).flatten(1, 2)

    def channels_last(self) -> Tensor:
        """Return [T, n, …, C]."""
        return self.tensor if self.layout == "last" else self.by_task().movedim(2, -1)

    def rows(self) -> Tensor:
        """Return [T·n, …]."""
        return self.by_task().flatten(0, 1)

    def like(self, tensor: Tensor) -> Value:
        """Return another tensor in the same layout."""
        return Value(tensor, self.tasks, self.layout)

    def from_rows(self, rows: Tensor) -> Value:
        """Return these rows [T·n, …] as a value."""
        return Value(rows.view(self.tasks, -1, *rows.shape[1:]), self.tasks)


@dataclass(frozen=True)
class Weights:
    """One layer's parameters: each task's own [T, …], or shared by all tasks."""

    own: Mapping[str, Tensor]
    shared: Mapping[str, Tensor]

    def per_task(self, name: str, tasks: int) -> Tensor | None:
        """Return [T, …], or None where the layer has no such parameter."""
        if name in self.own:
            return self.own[name]
        shared = self.shared.get(name)
        return None if shared is None else shared.expand(tasks, *shared.shape)

    @property
    def are_shared(self) -> bool:
        """Return whether every parameter is the same for all tasks."""
        return not self.own


@dataclass(frozen=True)
class Context:
    """What a rule may depend on besides its input.

    statistics: batch norm takes its statistics from that many first examples of each task; None: all.
    cancelled_bias: the normalisation that follows cancels a bias that is added here.
    relu: this batch norm also computes the ReLU that follows it.
    """

    statistics: int | None = None
    cancelled_bias: bool = False
    relu: bool = False


LayerRule = Callable[[Any, Value, Weights, Context], Value]


def linear(layer: nn.Linear, x: Value, weights: Weights, context: Context) -> Value:
    """Compute y = x Wᵀ + b: one batched product with each task's own W."""
    if weights.are_shared:
        return Value(F.linear(x.by_task(), weights.shared["weight"], weights.shared.get("bias")), x.tasks)
    weight, bias = (weights.per_task(name, x.tasks) for name in ("weight", "bias"))
    assert weight is not None
    rows = x.by_task()
    if rows.dim() != 3:
        raise NoRule("a linear layer over inputs of more than one axis")
    if bias is None or context.cancelled_bias:
        return Value(torch.bmm(rows, weight.transpose(1, 2)), x.tasks)
    return Value(torch.baddbmm(bias.unsqueeze(1), rows, weight.transpose(1, 2)), x.tasks)


def convolution(layer: nn.Conv2d, x: Value, weights: Weights, context: Context) -> Value:
    """Convolve by the CPU kernels where they can, else densely or in groups by torch."""
    padding = layer.padding if isinstance(layer.padding, tuple) else _same(layer)
    geometry = Geometry(_pair(layer.stride), _pair(padding), _pair(layer.dilation), layer.groups)
    kernels = _kernels_of_convolution(x.tensor, layer)
    if kernels is not None:
        y = _by_kernels(kernels, x, weights, geometry)
    elif "weight" in weights.own:
        y = Value(task_convolution(x.in_groups(), weights.own["weight"], geometry), x.tasks, "grouped")
    else:
        shared = shared_convolution(x.in_groups(), weights.shared["weight"], geometry, x.tasks)
        y = Value(shared, x.tasks, "grouped")
    bias = weights.per_task("bias", x.tasks)
    if bias is None or context.cancelled_bias:
        return y
    if y.layout == "last":
        return y.like(y.tensor + bias[:, None, None, None])
    return y.like(y.tensor + bias.flatten()[:, None, None])


def _kernels_of_convolution(x: Tensor, layer: nn.Conv2d) -> Kernels | None:
    """Return the kernels for this layer; None where groups or a shorter type are asked for."""
    if layer.groups > 1 or layer.weight.dtype != x.dtype or product_type(x) != x.dtype:
        return None
    return kernels_for(x)


def _by_kernels(kernels: Kernels, x: Value, weights: Weights, geometry: Geometry) -> Value:
    weight = weights.own.get("weight")
    if weight is None:
        weight = kernel.for_tasks(weights.shared["weight"], 1)
    y = kernel.convolve(kernels, x.channels_last(), weight.permute(0, 3, 4, 2, 1), Sliding(*geometry[:3]))
    return Value(y, x.tasks, "last")


def batch_norm(layer: nn.BatchNorm2d, x: Value, weights: Weights, context: Context) -> Value:
    """Normalise each task's channels by that task's own batch; with the ReLU that follows, if any."""
    kernels = kernels_for(x.tensor) if x.layout == "last" and context.statistics is None else None
    if kernels is not None:
        channels = x.tensor.shape[-1]
        weight, bias = (weights.per_task(name, x.tasks) for name in ("weight", "bias"))
        weight = x.tensor.new_ones(channels).expand(x.tasks, channels) if weight is None else weight
        bias = x.tensor.new_zeros(channels).expand(x.tasks, channels) if bias is None else bias
        return x.like(kernel.batch_norm(kernels, x.tensor, weight, bias, layer.eps, context.relu))
    y = _grouped_norm(layer, x, weights, context)
    return y.like(torch.relu(y.tensor)) if context.relu else y


def _grouped_norm(layer: nn.BatchNorm2d, x: Value, weights: Weights, context: Context) -> Value:
    """Normalise with tasks in the channel axis, where each has its own statistics."""
    rest = len(x.shape) - 2
    weight, bias = (_flat(weights.per_task(name, x.tasks)) for name in ("weight", "bias"))
    grouped = x.in_groups()
    if context.statistics is None:
        y = normalisation.batch_norm(grouped, weight, bias, layer.eps)
        return Value(y, x.tasks, "grouped")
    axes = (0, *range(2, 2 + rest))
    variance, mean = torch.var_mean(grouped[: context.statistics], axes, correction=0, keepdim=True)
    y = (grouped - mean) * torch.rsqrt(variance + layer.eps)
    if weight is not None and bias is not None:
        y = y * weight.view(-1, *[1] * rest) + bias.view(-1, *[1] * rest)
    return Value(y, x.tasks, "grouped")


def group_norm(layer: nn.GroupNorm, x: Value, weights: Weights, context: Context) -> Value:
    """Normalise groups of channels of each example: T times as many groups."""
    weight, bias = (_flat(weights.per_task(name, x.tasks)) for name in ("weight", "bias"))
    y = F.group_norm(x.in_groups(), x.tasks * layer.num_groups, weight, bias, layer.eps)
    return Value(y, x.tasks, "grouped")


def layer_norm(layer: nn.LayerNorm, x: Value, weights: Weights, context: Context) -> Value:
    """Normalise each example over its last axes."""
    y = F.layer_norm(x.by_task(), layer.normalized_shape, None, None, layer.eps)
    weight, bias = (weights.per_task(name, x.tasks) for name in ("weight", "bias"))
    if weight is not None:
        y = y * weight.view(x.tasks, *[1] * (y.dim() - weight.dim()), *weight.shape[1:])
    if bias is not None:
        y = y + bias.view(x.tasks, *[1] * (y.dim() - bias.dim()), *bias.shape[1:])
    return Value(y, x.tasks)


def per_channel(layer: nn.Module, x: Value, weights: Weights, context: Context) -> Value:
    """Run a layer without weights that treats each channel of each example alike, such as 2-d pooling."""
    if len(x.shape) != 4:
        return Value(layer(x.by_task()), x.tasks)
    return x.like(layer(x.tensor)) if x.layout == "grouped" else x.from_rows(layer(x.rows()))


def elementwise(layer: nn.Module, x: Value, weights: Weights, context: Context) -> Value:
    """Run a layer that treats each element alike."""
    return x.like(layer(x.tensor))


def flatten_layer(layer: nn.Flatten, x: Value, weights: Weights, context: Context) -> Value:
    """Run `nn.Flatten` on all axes of an example."""
    return flatten(x, layer.start_dim, layer.end_dim)


def unchanged(layer: nn.Module, x: Value, weights: Weights, context: Context) -> Value:
    """Return the input."""
    return x


_ELEMENTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Tanh,
    nn.Sigmoid, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softsign, nn.LogSigmoid,
)  # fmt: skip
_POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d)

LAYER_RULES: Mapping[type[nn.Module], LayerRule] = {
    nn.Linear: linear,
    nn.Conv2d: convolution,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.GroupNorm: group_norm,
    nn.LayerNorm: layer_norm,
    nn.Flatten: flatten_layer,
    nn.Identity: unchanged,
    nn.Dropout: unchanged,  # `lift` has refused any that would drop elements
    nn.Dropout2d: unchanged,
    **dict.fromkeys(_ELEMENTWISE, elementwise),
    **dict.fromkeys(_POOLING, per_channel),
}


def layer_rule(layer: nn.Module) -> LayerRule:
    """Return the rule of a layer; raise NoRule without one, as for a subclass, which may compute anything."""
    rule = LAYER_RULES.get(type(layer))
    if rule is None or getattr(layer, "_forward_hooks", None) or getattr(layer, "_forward_pre_hooks", None):
        raise NoRule(f"layer {type(layer).__name__}")
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        raise NoRule(f"convolution with padding mode {layer.padding_mode!r}")
    if isinstance(layer, (nn.MaxPool2d, nn.AdaptiveMaxPool2d)) and layer.return_indices:
        raise NoRule("pooling that returns indices")
    return rule


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


def _flat(per_task: Tensor | None) -> Tensor | None:
    return None if per_task is None else per_task.flatten()


def _pair(value: Any) -> tuple[int, int]:
    first, second = value
    return int(first), int(second)


def _same(layer: nn.Conv2d) -> tuple[int, int]:
    """Return the zero padding of padding="same" or "valid"."""
    if layer.padding == "valid":
        return 0, 0
    total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    if any(t % 2 for t in total):
        raise NoRule("padding 'same' around a kernel of even size")
    return total[0] // 2, total[1] // 2
