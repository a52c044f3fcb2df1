"""The GPU's kernels as functions of tensors, with the interface of the CPU's `Kernels`.

Activations are [T, n, H, W, C], a task's kernels [kh, kw, C, O], numbers per channel [T, C]. Kernels
[1, kh, kw, C, O], or those of an `expand`, are shared by all tasks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
from torch import Tensor

from metabench.engine.kernels.layers import Sliding, convolved_shape
from metabench.engine.triton import norm, patches
from metabench.engine.triton.products import split_product

CHANNELS = 16  # of a program of batch norm: 64 bytes of float32 that lie side by side
ROWS = 128
COPIED = 1024  # numbers that a program copies
Product = Callable[[Tensor, Tensor], Tensor]


class TritonKernels:
    """The kernels of a GPU; products: "torch", in the number format that torch is set to, or "tf32x3"."""

    def __init__(self, products: str = "torch") -> None:
        self.products = products
        self.title = "triton kernels" if products == "torch" else f"triton kernels, {products}"

    def convolve(self, x: Tensor, weight: Tensor, sliding: Sliding, *more: Tensor) -> Tensor:
        """Return x ∗ w, [T, n, H', W', O]; more: a second x and w, whose product is added."""
        out = convolved_shape(x.shape, weight.shape, sliding)
        y = self._multiply(self._patches(x, weight.shape, sliding, out), _matrix(weight)).view(out)
        return y if not more else y.add_(self.convolve(more[0], more[1], sliding))

    def input_gradient(self, gy: Tensor, weight: Tensor, x_shape: torch.Size, sliding: Sliding) -> Tensor:
        """Return the gradient of x, [T, n, H, W, C], for gy [T, n, H', W', O] of y = x ∗ w."""
        out = convolved_shape(x_shape, weight.shape, sliding)
        columns = self._multiply(gy.reshape(out[0], -1, out[-1]), _matrix(weight).transpose(1, 2))
        gx = gy.new_empty(x_shape)
        _, _, height, width, channels = x_shape
        (stride, padding, dilation), count = sliding, gx.numel()
        patches.add_back[(triton.cdiv(count, COPIED),)](
            columns, gx, count, height, width, channels, *out[2:4], *stride, *padding, *dilation,
            *weight.shape[1:3], COPIED,
        )  # fmt: skip
        return gx

    def weight_gradient(self, gy: Tensor, x: Tensor, weight_shape: torch.Size, sliding: Sliding) -> Tensor:
        """Return the gradient of w in its shape, for gy [T, n, H', W', O] of y = x ∗ w."""
        out = convolved_shape(x.shape, weight_shape, sliding)
        batches = weight_shape[0]
        rows = self._patches(x, weight_shape, sliding, out).view(batches, -1, weight_shape[1:4].numel())
        return self._product(rows.transpose(1, 2), gy.reshape(batches, -1, out[-1])).view(weight_shape)

    def norm(
        self, x: Tensor, weight: Tensor, bias: Tensor, eps: float, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return y, m and r [T, C]: w (x − m) r + b of each task's channels, its ReLU where asked for."""
        x, (w, w_stride), (b, b_stride) = x.contiguous(), _per_task(weight), _per_task(bias)
        y, m = torch.empty_like(x), x.new_empty(x.shape[0], x.shape[-1])
        r = torch.empty_like(m)
        norm.forward[_grid(x)](
            x, w, b, y, m, r, _rows(x), x.shape[-1], w_stride, b_stride, eps, relu, ROWS, CHANNELS
        )
        return y, m, r

    def norm_gradient(
        self, gy: Tensor, x: Tensor, y: Tensor, weight: Tensor, m: Tensor, r: Tensor, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x and of each task's weight and bias, [T, C]."""
        (w, stride), gy = _per_task(weight), gy.contiguous()
        outputs = torch.empty_like(x), torch.empty_like(m), torch.empty_like(m)
        norm.gradient[_grid(x)](
            gy, x, y, w, m, r, *outputs, _rows(x), x.shape[-1], stride, relu, ROWS, CHANNELS
        )
        return outputs

    def norm_second(
        self, incoming: tuple[Tensor, Tensor, Tensor], gy: Tensor, x: Tensor, y: Tensor, weight: Tensor,
        m: Tensor, r: Tensor, relu: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Return the gradients of gy, x and weight, for `incoming` ones of what `norm_gradient` returns."""
        (w, stride), gy = _per_task(weight), gy.contiguous()
        v, p, q = (tensor.contiguous() for tensor in incoming)
        outputs = torch.empty_like(x), torch.empty_like(x), torch.empty_like(m)
        norm.second[_grid(x)](
            v, p, q, gy, x, y, w, m, r, *outputs, _rows(x), x.shape[-1], stride, relu, ROWS, CHANNELS
        )
        return outputs

    def _patches(self, x: Tensor, weight_shape: torch.Size, sliding: Sliding, out: tuple[int, ...]) -> Tensor:
        """Return the patches of each task, [T, n·H'·W', kh·kw·C]."""
        x, (_, _, height, width, channels) = x.contiguous(), x.shape
        taps = weight_shape[1:3]
        copy = x.new_empty(out[0], out[1] * out[2] * out[3], taps.numel() * channels)
        (stride, padding, dilation), count = sliding, copy.numel()
        patches.take[(triton.cdiv(count, COPIED),)](
            x, copy, count, height, width, channels, *out[2:4], *taps, *stride, *padding, *dilation, COPIED
        )
        return copy

    def _multiply(self, rows: Tensor, matrix: Tensor) -> Tensor:
        """Return the product of [T, R, K] with each task's matrix, or with one that all tasks share."""
        if len(matrix) == 1:
            return self._product(rows.reshape(1, -1, rows.shape[-1]), matrix)
        return self._product(rows, matrix)

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        if self.products == "tf32x3" and a.dtype == torch.float32:
            return split_product(a, b)
        return torch.bmm(a, b)


def _matrix(weight: Tensor) -> Tensor:
    """Return kernels [T, kh, kw, C, O] as matrices [T or 1, kh·kw·C, O]; 1 where all tasks share them."""
    if weight.shape[0] > 1 and weight.stride(0) == 0:
        weight = weight[:1]
    return weight.reshape(weight.shape[0], -1, weight.shape[-1])


def _per_task(weight: Tensor) -> tuple[Tensor, int]:
    """Return what to read each task's weights from, and the distance from a task's to the next one's."""
    if weight.shape[0] == 1 or weight.stride(0) == 0:
        return weight[0].contiguous(), 0
    return weight.contiguous(), weight.shape[-1]


def _rows(x: Tensor) -> int:
    return x.numel() // (x.shape[0] * x.shape[-1])


def _grid(x: Tensor) -> tuple[int, int]:
    return x.shape[0], triton.cdiv(x.shape[-1], CHANNELS)
