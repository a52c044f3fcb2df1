"""Rules that run one layer for all tasks at once: what makes an ordinary module batched over tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench.engine import normalisation
from metabench.engine.convolution import Geometry, product_type, shared_convolution, task_convolution
from metabench.engine.function_rules import flatten
from metabench.engine.kernels import LayerKernels, layer_kernels
from metabench.engine.kernels import differentiable as kernel
from metabench.engine.kernels.layers import Sliding
from metabench.engine.norms import is_fixed
from metabench.engine.values import Context, NoRule, Value, Weights

LARGEST_PATCHES = 4 << 30
"""Bytes of patches that a convolution on a GPU may copy; beyond, torch's grouped convolutions compute."""

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


def _kernels_of_convolution(x: Tensor, layer: nn.Conv2d) -> LayerKernels | None:
    """Return the kernels for this layer; None where groups or a shorter type are asked for."""
    if layer.groups > 1 or layer.weight.dtype != x.dtype or product_type(x) != x.dtype:
        return None
    taps = layer.weight.shape[2:].numel() / math.prod(_pair(layer.stride))
    if x.device.type != "cpu" and x.numel() * taps * x.element_size() > LARGEST_PATCHES:
        return None
    return layer_kernels(x)


def _by_kernels(kernels: LayerKernels, x: Value, weights: Weights, geometry: Geometry) -> Value:
    weight = weights.own.get("weight")
    if weight is None:
        weight = kernel.for_tasks(weights.shared["weight"], 1)
    y = kernel.convolve(kernels, x.channels_last(), weight.permute(0, 3, 4, 2, 1), Sliding(*geometry[:3]))
    return Value(y, x.tasks, "last")


def batch_norm(layer: nn.BatchNorm2d, x: Value, weights: Weights, context: Context) -> Value:
    """Normalise each task's channels by that task's own batch; with the ReLU that follows, if any.

    A layer that is fixed normalises by the statistics that it holds.
    """
    if is_fixed(layer):
        y = _fixed_norm(layer, x, weights)
        return y.like(torch.relu(y.tensor)) if context.relu else y
    kernels = layer_kernels(x.tensor) if x.layout == "last" and context.statistics is None else None
    if kernels is not None:
        channels = x.tensor.shape[-1]
        weight, bias = (weights.per_task(name, x.tasks) for name in ("weight", "bias"))
        weight = x.tensor.new_ones(channels).expand(x.tasks, channels) if weight is None else weight
        bias = x.tensor.new_zeros(channels).expand(x.tasks, channels) if bias is None else bias
        return x.like(kernel.batch_norm(kernels, x.tensor, weight, bias, layer.eps, context.relu))
    y = _grouped_norm(layer, x, weights, context)
    return y.like(torch.relu(y.tensor)) if context.relu else y


def _fixed_norm(layer: nn.BatchNorm2d, x: Value, weights: Weights) -> Value:
    """Normalise by the statistics that the layer holds, which all tasks share."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    weight, bias = (weights.per_task(name, x.tasks) for name in ("weight", "bias"))
    if x.layout == "last":
        scale = torch.rsqrt(layer.running_var + layer.eps).expand(x.tasks, -1)
        scale = scale if weight is None else scale * weight
        y = (x.tensor - layer.running_mean) * scale[:, None, None, None]
        return x.like(y if bias is None else y + bias[:, None, None, None])
    mean, variance = (held.repeat(x.tasks) for held in (layer.running_mean, layer.running_var))
    y = F.batch_norm(x.in_groups(), mean, variance, _flat(weight), _flat(bias), False, 0.0, layer.eps)
    return Value(y, x.tasks, "grouped")


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
