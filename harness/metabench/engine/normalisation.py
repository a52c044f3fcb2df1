"""Batch norm that can be differentiated twice in few passes over memory.

Torch writes the double backward of a batch norm as some thirty elementwise operations. It is a linear
combination of three tensors with one coefficient each per channel, which these functions compute directly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten


def batch_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Compute w (x − m) r + b with each channel's mean m and r = 1/√(variance + eps), of this batch.

    x: [n, C, …]; weight, bias: [C]; returns [n, C, …]. Correct to second order.
    """
    channels = x.shape[1]
    weight = x.new_ones(channels) if weight is None else weight
    bias = x.new_zeros(channels) if bias is None else bias
    if not torch.is_grad_enabled():
        return _forward(x, weight, bias, eps)[0]
    return _Norm.apply(x, weight, bias, eps)  # type: ignore[no-any-return]


def _forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, m and r."""
    result: tuple[Tensor, Tensor, Tensor] = torch.native_batch_norm(
        x, weight, bias, None, None, True, 0.0, eps
    )
    return result


def _backward(
    gy: Tensor, x: Tensor, weight: Tensor, m: Tensor, r: Tensor, of_x: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x̄ = w r (ȳ − mean(ȳ) − x̂ mean(ȳ x̂)), w̄ = Σ ȳ x̂, b̄ = Σ ȳ, with x̂ = (x − m) r."""
    result: tuple[Tensor, Tensor, Tensor] = _aten.native_batch_norm_backward(
        gy, x, weight, None, None, m, r, True, 0.0, [of_x, True, True]
    )
    return result


def _scaled(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return x · scale + shift, both per channel, in one pass: a norm of given statistics."""
    mean, variance = torch.zeros_like(scale), torch.ones_like(scale)
    result: Tensor = torch.native_batch_norm(x, scale, shift, mean, variance, False, 0.0, 0.0)[0]
    return result


class _Norm(torch.autograd.Function):
    """(x, w, b) → y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        y, m, r = _forward(x, weight, bias, eps)
        ctx.save_for_backward(x, weight, m, r)
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Any:
        x, weight, m, r = ctx.saved_tensors
        gy = gy.contiguous()
        if not torch.is_grad_enabled():
            return *_backward(gy, x, weight, m, r), None
        return *_Gradient.apply(gy, x, weight, m, r), None


class _Gradient(torch.autograd.Function):
    """(ȳ, x, w) → (x̄, w̄, b̄), itself to be differentiated once more; m and r count as functions of x.

    With v, p, q the incoming gradients of x̄, w̄, b̄, the means v̄, ȳ, a = mean(v x̂), c = mean(ȳ x̂) over the
    M numbers of a channel, and s = Σ v ȳ − M (v̄ ȳ + a c):
      grad of ȳ = w r (v − v̄ − x̂ a) + p x̂ + q
      grad of w = r s
      grad of x = r (h − mean(h) − x̂ mean(h x̂)) − x̂ w r² s / M,  h = p ȳ − w r (c v + a ȳ)
    """

    @staticmethod
    def forward(ctx: Any, gy: Tensor, x: Tensor, weight: Tensor, m: Tensor, r: Tensor) -> Any:
        gx, gw, gb = _backward(gy, x, weight, m, r)
        ctx.save_for_backward(gy, x, weight, m, r, gw, gb)
        return gx, gw, gb

    @staticmethod
    def backward(ctx: Any, v: Tensor, p: Tensor, q: Tensor) -> Any:
        gy, x, weight, m, r, gw, gb = ctx.saved_tensors
        v = v.contiguous()
        count = x.numel() // x.shape[1]
        to_gy, a, v_mean = _backward(v, x, weight, m, r)
        a, v_mean, c, gy_mean = a / count, v_mean / count, gw / count, gb / count
        # Σ v ȳ per channel: the weight gradient of a norm with mean 0 and r = 1, in one pass
        product = _aten.native_batch_norm_backward(
            gy, v, None, None, None, torch.zeros_like(m), torch.ones_like(r), True, 0.0, [False, True, False]
        )[1]
        s = product - count * (v_mean * gy_mean + a * c)
        to_gy.add_(_scaled(x, p * r, q - p * r * m))
        to_weight = r * s
        # h = p ȳ − w r (c v + a ȳ) = of_v · v + of_gy · ȳ, so its means follow from known ones
        of_v = -weight * r * c
        of_gy = p - weight * r * a
        h_mean = of_v * v_mean + of_gy * gy_mean
        hx_mean = of_v * a + of_gy * c
        of_x = -r * (r * hx_mean + weight * r * r * s / count)
        to_x = _scaled(x, of_x, -r * h_mean - m * of_x)
        to_x.add_(_scaled(v, r * of_v, torch.zeros_like(r)))
        to_x.add_(_scaled(gy, r * of_gy, torch.zeros_like(r)))
        return to_gy, to_x, to_weight, None, None
