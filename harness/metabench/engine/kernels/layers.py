"""What kernels for the layers of a network compute, on a CPU or on a GPU."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Pair = tuple[int, int]


class Sliding(NamedTuple):
    """How a kernel moves over the plane: (rows, columns) of stride, zero padding and dilation."""

    stride: Pair
    padding: Pair
    dilation: Pair


class LayerKernels(Protocol):
    """Convolution and batch norm with all their derivatives; title: how a result's path names them.

    Activations are [T, n, H, W, C], a task's kernels [kh, kw, C, O], numbers per channel [T, C].
    """

    @property
    def title(self) -> str:
        """Return the name in a result's execution path."""

    def convolve(self, x: Tensor, weight: Tensor, sliding: Sliding, *more: Tensor) -> Tensor:
        """Return x ∗ w, [T, n, H', W', O]; more: a second x and w, whose product is added."""

    def input_gradient(self, gy: Tensor, weight: Tensor, x_shape: torch.Size, sliding: Sliding) -> Tensor:
        """Return the gradient of x for gy of y = x ∗ w."""

    def weight_gradient(self, gy: Tensor, x: Tensor, weight_shape: torch.Size, sliding: Sliding) -> Tensor:
        """Return the gradient of w in its shape for gy of y = x ∗ w."""

    def norm(
        self, x: Tensor, weight: Tensor, bias: Tensor, eps: float, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return y = w (x − m) r + b or its ReLU, m and r [T, C]."""

    def norm_gradient(
        self, gy: Tensor, x: Tensor, y: Tensor, weight: Tensor, m: Tensor, r: Tensor, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x and of each task's weight and bias, [T, C]."""

    def norm_second(
        self, incoming: tuple[Tensor, Tensor, Tensor], gy: Tensor, x: Tensor, y: Tensor, weight: Tensor,
        m: Tensor, r: Tensor, relu: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Return the gradients of gy, x and weight, for `incoming` ones of what `norm_gradient` returns."""


@lru_cache(maxsize=1024)
def convolved_shape(x_shape: torch.Size, weight_shape: torch.Size, sliding: Sliding) -> tuple[int, ...]:
    """Return the shape of x ∗ w, (T, n, H', W', O). Raises ValueError where the shapes do not fit."""
    tasks, images, *plane, channels = x_shape
    sets, *kernel, inputs, outputs = weight_shape
    if sets not in (1, tasks) or inputs != channels:
        raise ValueError(f"kernels {tuple(weight_shape)} do not fit x {tuple(x_shape)}")
    out = [
        (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
        for size, taps, stride, padding, dilation in zip(plane, kernel, *sliding, strict=True)
    ]
    if min(out) < 1:
        raise ValueError(f"kernels {tuple(weight_shape)} are larger than padded x {tuple(x_shape)}")
    return tasks, images, *out, outputs
