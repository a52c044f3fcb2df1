"""Convolution of many tasks at once, each with its own kernels, that can be differentiated twice.

Tasks lie in the channel axis, one group of channels each. Torch's own double backward of a grouped
convolution loops over the groups; these three functions say it in single calls instead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

_aten = torch.ops.aten


class Geometry(NamedTuple):
    """How a kernel moves over the plane: strides, zero padding, dilation; groups: tasks × groups of each."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def grouped_convolution(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """y = x ∗ w in groups: x [n, groups·C, H, W]; weight [groups·O, C, kh, kw]; y [n, groups·O, H', W'].

    Correct and quick to second order (a third derivative is refused by torch).
    """
    if not torch.is_grad_enabled():
        return _forward(x, weight, geometry)
    return _Convolution.apply(x, weight, geometry)  # type: ignore[no-any-return]


def _forward(x: Tensor, weight: Tensor, g: Geometry) -> Tensor:
    y: Tensor = _aten.convolution(x, weight, None, g.stride, g.padding, g.dilation, False, (0, 0), g.groups)
    return y


def _backward(
    gy: Tensor, x: Tensor, weight: Tensor, g: Geometry, of_x: bool, of_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    mask = [of_x, of_weight, False]
    gx, gw, _ = _aten.convolution_backward(
        gy, x, weight, None, g.stride, g.padding, g.dilation, False, (0, 0), g.groups, mask
    )
    return gx, gw


class _Convolution(torch.autograd.Function):
    """(x, w) → y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return _forward(x, weight, geometry)

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        of_x, of_weight, _ = ctx.needs_input_grad
        if not torch.is_grad_enabled():
            return *_backward(gy, x, weight, ctx.geometry, of_x, of_weight), None
        gx, gw = _Gradient.apply(gy, x, weight, ctx.geometry, of_x, of_weight)
        return gx, gw, None


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
                to_gy = _forward(ggx, weight, geometry)
            if of_weight:
                to_weight = _backward(gy, ggx, weight, geometry, False, True)[1]
        if ggw is not None:
            if of_gy:
                more = _forward(x, ggw, geometry)
                to_gy = more if to_gy is None else to_gy.add_(more)
            if of_x:
                to_x = _backward(gy, x, ggw, geometry, True, False)[0]
        return to_gy, to_x, to_weight, None, None, None
