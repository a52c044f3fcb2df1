"""The kernels as functions that can be differentiated to every order.

A convolution and its two gradients are linear in each of their arguments, so the derivatives of each are
the others. Batch norm has kernels for its gradient and for the gradient of that; its further derivatives
are those of the gradient written out in torch's operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metabench.engine.kernels.layers import LayerKernels, Sliding


def convolve(kernels: LayerKernels, x: Tensor, weight: Tensor, sliding: Sliding) -> Tensor:
    """Return x ∗ w, [T, n, H', W', O], for x [T, n, H, W, C] and w [T or 1, kh, kw, C, O]."""
    if not torch.is_grad_enabled():
        return kernels.convolve(x, weight, sliding)
    return _Convolution.apply(x, weight, kernels, sliding)  # type: ignore[no-any-return]


def batch_norm(
    kernels: LayerKernels, x: Tensor, weight: Tensor, bias: Tensor, eps: float, relu: bool
) -> Tensor:
    """Return w (x − m) r + b with the mean m and r = 1/√(variance + eps) of each task's channels.

    x: [T, n, …, C]; weight, bias: [T, C]; relu: return the positive part.
    """
    x = x.contiguous()
    if not torch.is_grad_enabled():
        return kernels.norm(x, weight, bias, eps, relu)[0]
    return _Norm.apply(x, weight, bias, kernels, eps, relu)  # type: ignore[no-any-return]


def for_tasks(weight: Tensor, tasks: int) -> Tensor:
    """Return a convolution's weight [O, C, kh, kw] for every task, [T, O, C, kh, kw], as the kernels read it.

    That is laid out in memory as [kh, kw, C, O], once for all tasks. Its gradient has torch's own layout.
    """
    return _ForTasks.apply(weight, tasks)  # type: ignore[no-any-return]


class _ForTasks(torch.autograd.Function):
    """[O, C, kh, kw] → [T, O, C, kh, kw]."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, tasks: int) -> Tensor:
        ours = weight.permute(2, 3, 1, 0).contiguous()
        return ours.expand(tasks, *ours.shape).permute(0, 4, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        # summed in the layout of memory: in another order torch's sum takes 40 times as long
        return gradient.permute(0, 3, 4, 2, 1).sum(0).permute(3, 2, 0, 1).contiguous(), None


class _Convolution(torch.autograd.Function):
    """(x, w) → y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, kernels: LayerKernels, sliding: Sliding) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = kernels, sliding
        return kernels.convolve(x, weight, sliding)

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        gradient = _ConvolutionGradient.apply if torch.is_grad_enabled() else _gradient
        gx, gw = gradient(gy, x, weight, *ctx.how, *ctx.needs_input_grad[:2])
        return gx, gw, None, None


def _gradient(
    gy: Tensor,
    x: Tensor,
    weight: Tensor,
    kernels: LayerKernels,
    sliding: Sliding,
    of_x: bool,
    of_weight: bool,
) -> tuple[Tensor | None, Tensor | None]:
    gx = kernels.input_gradient(gy, weight, x.shape, sliding) if of_x else None
    gw = kernels.weight_gradient(gy, x, weight.shape, sliding) if of_weight else None
    return gx, gw


class _ConvolutionGradient(torch.autograd.Function):
    """(ȳ, x, w) → (x̄, w̄), the gradient of y = x ∗ w.

    x̄ is linear in (ȳ, w) and w̄ in (ȳ, x); with ẍ, ẅ the incoming gradients of x̄ and w̄:
    grad of ȳ = ẍ ∗ w + x ∗ ẅ;  grad of x = input gradient of (ȳ, ẅ);  grad of w = weight gradient of (ȳ, ẍ).
    """

    @staticmethod
    def forward(
        ctx: Any, gy: Tensor, x: Tensor, weight: Tensor, kernels: LayerKernels, sliding: Sliding, of_x: bool,
        of_weight: bool,
    ) -> Any:  # fmt: skip
        ctx.save_for_backward(gy, x, weight)
        ctx.how = kernels, sliding
        ctx.set_materialize_grads(False)
        return _gradient(gy, x, weight, kernels, sliding, of_x, of_weight)

    @staticmethod
    def backward(ctx: Any, ggx: Tensor | None, ggw: Tensor | None) -> Any:
        gy, x, weight = ctx.saved_tensors
        kernels, sliding = ctx.how
        of_gy, of_x, of_weight = ctx.needs_input_grad[:3]
        gradient = _ConvolutionGradient.apply if torch.is_grad_enabled() else _gradient
        to_x = to_weight = None
        if ggw is not None and of_x:
            to_x = gradient(gy, x, ggw, kernels, sliding, True, False)[0]
        if ggx is not None and of_weight:
            to_weight = gradient(gy, ggx, weight, kernels, sliding, False, True)[1]
        to_gy = _sum_of_products([(ggx, weight), (x, ggw)], kernels, sliding) if of_gy else None
        return to_gy, to_x, to_weight, None, None, None, None


def _sum_of_products(
    pairs: list[tuple[Tensor | None, Tensor | None]], kernels: LayerKernels, sliding: Sliding
) -> Tensor | None:
    present = [(x, w) for x, w in pairs if x is not None and w is not None]
    if not present:
        return None
    if torch.is_grad_enabled():
        return torch.stack([convolve(kernels, x, w, sliding) for x, w in present]).sum(0)
    first, *second = present
    return kernels.convolve(*first, sliding, *(tensor for pair in second for tensor in pair))


class _Norm(torch.autograd.Function):
    """(x, w, b) → y."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, kernels: LayerKernels, eps: float, relu: bool
    ) -> Tensor:
        y, m, r = kernels.norm(x, weight, bias, eps, relu)
        ctx.save_for_backward(x, y if relu else x, weight, m, r)  # y is read by the gradient of ReLU alone
        ctx.how = kernels, eps, relu
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Any:
        x, y, weight, m, r = ctx.saved_tensors
        kernels, eps, relu = ctx.how
        if torch.is_grad_enabled():
            gradients = _NormGradient.apply(gy, x, weight, y.detach(), m, r, kernels, eps, relu)
        else:
            gradients = kernels.norm_gradient(gy, x, y, weight, m, r, relu)
        return *gradients, None, None, None


class _NormGradient(torch.autograd.Function):
    """(ȳ, x, w) → (x̄, w̄, b̄), with m and r as functions of x; y is read for where ReLU is zero alone."""

    @staticmethod
    def forward(
        ctx: Any, gy: Tensor, x: Tensor, weight: Tensor, y: Tensor, m: Tensor, r: Tensor,
        kernels: LayerKernels, eps: float, relu: bool,
    ) -> Any:  # fmt: skip
        ctx.save_for_backward(gy, x, weight, y, m, r)
        ctx.how = kernels, eps, relu
        return kernels.norm_gradient(gy, x, y, weight, m, r, relu)

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> Any:
        gy, x, weight, y, m, r = ctx.saved_tensors
        kernels, eps, relu = ctx.how
        if torch.is_grad_enabled():
            # of each argument alone: ȳ may depend on x, too
            _, pull, *_ = torch.func.vjp(lambda g, x, w: _written_out(g, x, w, y, eps, relu), gy, x, weight)
            gradients = pull(incoming)
        else:
            gradients = kernels.norm_second(incoming, gy, x, y, weight, m, r, relu)
        return *gradients, *[None] * 6


def _written_out(
    gy: Tensor, x: Tensor, weight: Tensor, y: Tensor, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `LayerKernels.norm_gradient` does, by torch's operations."""
    g = torch.where(y <= 0, 0, gy) if relu else gy
    axes = list(range(1, x.dim() - 1))
    variance, m = torch.var_mean(x, axes, correction=0, keepdim=True)
    r = torch.rsqrt(variance + eps)
    normal = (x - m) * r
    scale = weight.view(len(weight), *[1] * len(axes), -1) * r
    gx = scale * (g - g.mean(axes, keepdim=True) - normal * (g * normal).mean(axes, keepdim=True))
    return gx, (g * normal).sum(axes), g.sum(axes)
