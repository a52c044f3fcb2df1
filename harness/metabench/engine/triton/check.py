"""What a GPU's kernels compute against torch's operations in float64, before a network runs on them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from metabench.engine.kernels import differentiable
from metabench.engine.kernels.layers import LayerKernels, Sliding

TASKS, IMAGES, SIDE, CHANNELS, OUTPUTS = 2, 3, 6, 3, 18
SLIDING = Sliding((2, 2), (1, 1), (1, 1))
EPS = 1e-5


def largest_error(kernels: LayerKernels, device: torch.device, dtype: torch.dtype) -> float:
    """Return the largest error of a block's output, gradient and second derivatives.

    Each is relative to the largest number of its tensor. A block is a convolution, a batch norm and a ReLU.
    """
    inputs = [tensor.to(device, dtype) for tensor in _inputs()]
    exact = _derivatives(_reference, [tensor.double() for tensor in inputs])

    def block(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        y = differentiable.convolve(kernels, x, weight, SLIDING)
        return differentiable.batch_norm(kernels, y, scale, shift, EPS, True)

    errors = [
        float((ours.double() - theirs).abs().max() / theirs.abs().max())
        for ours, theirs in zip(_derivatives(block, inputs), exact, strict=True)
    ]
    return max(errors)


def _inputs() -> list[Tensor]:
    """Return x, the convolution's weight, and the batch norm's scale and shift."""
    generator = torch.Generator().manual_seed(1)
    shapes: list[tuple[int, ...]] = [(TASKS, IMAGES, SIDE, SIDE, CHANNELS), (TASKS, 3, 3, CHANNELS, OUTPUTS)]
    shapes += [(TASKS, OUTPUTS), (TASKS, OUTPUTS)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def _derivatives(block: object, inputs: list[Tensor]) -> list[Tensor]:
    """Return the block's output, the gradients of a sum of its squares, and those of theirs."""
    assert callable(block)
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        y = block(*leaves)
        first = torch.autograd.grad((y * y).sum() / y.numel(), leaves, create_graph=True)
        length = torch.stack([gradient.pow(2).sum() for gradient in first]).sum()
        second = torch.autograd.grad(length, leaves)
    return [y.detach(), *(gradient.detach() for gradient in (*first, *second))]


def _reference(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return the same block by torch's operations, task by task."""
    tasks = []
    for images, kernel, w, b in zip(x, weight, scale, shift, strict=True):
        y = F.conv2d(images.movedim(-1, 1), kernel.permute(3, 2, 0, 1), None, *SLIDING)
        tasks.append(torch.relu(F.batch_norm(y, None, None, w, b, True, 0.0, EPS)).movedim(1, -1))
    return torch.stack(tasks)
