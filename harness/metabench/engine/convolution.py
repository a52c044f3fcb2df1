"""Convolution of many tasks at once, each with its own kernels, that can be differentiated twice.

Tasks lie in the channel axis, one group of channels each. Torch's own double backward of a grouped
convolution loops over the groups; these functions do it in single calls instead. Where all tasks still
have the same kernels (the first inner step), one dense convolution does, which is quicker: x [n, T·C, …]
is [n·T, C, …] without a copy.

Under autocast every convolution here, first and second derivatives included, computes in autocast's type;
a gradient has the type of what it is the gradient of. It is done by hand, because autocast knows
`convolution` on CUDA alone, and its derivative nowhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

_aten = torch.ops.aten


class Geometry(NamedTuple):
    """How a kernel moves over the plane: stride, zero padding, dilation; groups: channel groups of a task."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def task_convolution(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Compute y = x ∗ w, each task with its own w.

    x: [n, T·C, H, W]; weight: [T, O, C, kh, kw]; y: [n, T·O, H', W'].
    Correct and quick to second order (torch refuses a third derivative).
    """
    dtype = product_type(x)
    if not torch.is_grad_enabled():
        return _forward(x, weight, geometry, dtype)
    return _Convolution.apply(x, weight, geometry, dtype)  # type: ignore[no-any-return]


def shared_convolution(x: Tensor, weight: Tensor, geometry: Geometry, tasks: int) -> Tensor:
    """Compute y = x ∗ w with one w for all tasks.

    x: [n, T·C, H, W]; weight: [O, C, kh, kw]; y: [n, T·O, H', W'].
    """
    return _shared(x, weight, geometry, tasks, product_type(x))


def product_type(x: Tensor) -> torch.dtype:
    """Return the type that products with x are computed in: autocast's where it is on, else x's own."""
    kind = x.device.type
    if x.dtype == torch.float64 or not torch.is_autocast_enabled(kind):  # autocast leaves float64 alone
        return x.dtype
    return torch.get_autocast_dtype(kind)


def _shared(x: Tensor, weight: Tensor, g: Geometry, tasks: int, dtype: torch.dtype) -> Tensor:
    apart = _apart(x, tasks).to(dtype)
    y: Tensor = _aten.convolution(apart, weight.to(dtype), None, *_options(g, g.groups))
    return _together(y, tasks)


def _options(g: Geometry, groups: int) -> tuple[Any, ...]:
    return g.stride, g.padding, g.dilation, False, (0, 0), groups


def _apart(x: Tensor, tasks: int) -> Tensor:
    """Reshape [n, T·C, …] to [n·T, C, …]."""
    n, channels, *plane = x.shape
    return x.reshape(n * tasks, channels // tasks, *plane)


def _together(x: Tensor, tasks: int) -> Tensor:
    """Reshape [n·T, C, …] to [n, T·C, …]."""
    rows, channels, *plane = x.shape
    return x.reshape(rows // tasks, tasks * channels, *plane)


def _all_equal(weight: Tensor) -> bool:
    """Return whether all tasks have the very same kernels, by an `expand` that has not been copied."""
    return weight.shape[0] > 1 and weight.stride(0) == 0


def _forward(x: Tensor, weight: Tensor, g: Geometry, dtype: torch.dtype) -> Tensor:
    tasks = weight.shape[0]
    if _all_equal(weight):
        return _shared(x, weight[0], g, tasks, dtype)
    kernels = weight.flatten(0, 1).to(dtype)
    y: Tensor = _aten.convolution(x.to(dtype), kernels, None, *_options(g, tasks * g.groups))
    return y


def _backward(
    gy: Tensor, x: Tensor, weight: Tensor, g: Geometry, of_x: bool, of_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Compute the gradients of x and of each task's kernels in ȳ's type; each has its own tensor's type."""
    tasks, dtype = weight.shape[0], gy.dtype
    gx = gw = None
    inputs = x.to(dtype)
    if of_x and _all_equal(weight):
        gx = _aten.convolution_backward(
            _apart(gy, tasks), _apart(inputs, tasks), weight[0].to(dtype), None, *_options(g, g.groups),
            [True, False, False],
        )[0]  # fmt: skip
        gx, of_x = _together(gx, tasks).to(x.dtype), False
    if of_x or of_weight:
        # the gradient of the kernels needs their shape alone: one number stands for all of them
        shape = (tasks * weight.shape[1], *weight.shape[2:])
        kernels = weight.flatten(0, 1).to(dtype) if of_x else gy.new_zeros(()).expand(shape)
        mask = [of_x, of_weight, False]
        more, gw, _ = _aten.convolution_backward(
            gy, inputs, kernels, None, *_options(g, tasks * g.groups), mask
        )
        gx = more.to(x.dtype) if of_x else gx
        gw = gw.view(weight.shape).to(weight.dtype) if of_weight else None
    return gx, gw


class _Convolution(torch.autograd.Function):
    """(x, w) → y, computed and returned in `dtype`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return _forward(x, weight, geometry, dtype)

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        of_x, of_weight = ctx.needs_input_grad[:2]
        if not torch.is_grad_enabled():
            return *_backward(gy, x, weight, ctx.geometry, of_x, of_weight), None, None
        gx, gw = _Gradient.apply(gy, x, weight, ctx.geometry, of_x, of_weight)
        return gx, gw, None, None


class _Gradient(torch.autograd.Function):
    """(ȳ, x, w) → (x̄, w̄), the gradient of y = x ∗ w, itself to be differentiated once more.

    x̄ is linear in (ȳ, w) and w̄ in (ȳ, x); with ẍ, ẅ the incoming gradients of x̄ and w̄:
    grad of ȳ = ẍ ∗ w + x ∗ ẅ;  grad of x = input gradient of (ȳ, ẅ);  grad of w = weight gradient of (ȳ, ẍ).
    """

    @staticmethod
    def forward(
        ctx: Any, gy: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, of_x: bool, of_weight: bool
    ) -> Any:
        ctx.save_for_backward(gy, x, weight)
        ctx.geometry = geometry
        ctx.set_materialize_grads(False)
        return _backward(gy, x, weight, geometry, of_x, of_weight)

    @staticmethod
    def backward(ctx: Any, ggx: Tensor | None, ggw: Tensor | None) -> Any:
        gy, x, weight = ctx.saved_tensors
        geometry = ctx.geometry
        of_gy, of_x, of_weight = ctx.needs_input_grad[:3]
        to_gy = to_x = to_weight = None
        if ggx is not None:
            if of_gy:
                to_gy = _forward(ggx, weight, geometry, gy.dtype)
            if of_weight:
                to_weight = _backward(gy, ggx, weight, geometry, False, True)[1]
        if ggw is not None:
            if of_gy:
                more = _forward(x, ggw, geometry, gy.dtype)
                to_gy = more if to_gy is None else to_gy.add_(more)
            if of_x:
                to_x = _backward(gy, x, ggw, geometry, True, False)[0]
        return to_gy, to_x, to_weight, None, None, None
