"""Triton's kernels run on the CPU by its interpreter, against torch's operations in float64; prints JSON.

TRITON_INTERPRET=1 python tests/helpers/triton_kernels.py
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch.nn import functional as F

from helpers.meta_steps import TASKS, noisy_tasks
from metabench import Facts, Protocol, Workload
from metabench.device import Device
from metabench.engine.kernels import differentiable
from metabench.engine.kernels.layers import Sliding
from metabench.engine.triton.binding import TritonKernels
from metabench.engine.triton.check import largest_error
from metabench.engine.triton.products import split_product
from metabench_plugins.algorithms.maml import Maml
from metabench_plugins.networks.conv4 import Conv4

CPU = torch.device("cpu")
SLIDINGS = (Sliding((1, 1), (0, 1), (1, 1)), Sliding((2, 1), (2, 0), (1, 2)), Sliding((3, 2), (1, 1), (2, 1)))


def product_error() -> float:
    """The error of the batched product in full float32, for sizes that fill no block."""
    generator = torch.Generator().manual_seed(2)
    a = torch.randn(2, 9, 70, generator=generator).transpose(1, 2)
    b = torch.randn(2, 9, 5, generator=generator)
    exact = a.double() @ b.double()
    return float((split_product(a, b, split=False).double() - exact).abs().max() / exact.abs().max())


def convolution_error() -> float:
    """The largest error of y, x̄ and w̄ over strides, paddings and dilations that differ by axis."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 2, 7, 6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, 3, 2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    errors = []
    for sliding in SLIDINGS:
        ours = differentiable.convolve(TritonKernels(), x, weight, sliding)
        dense = F.conv2d(x.flatten(0, 1).movedim(-1, 1), weight[0].permute(3, 2, 0, 1), None, *sliding)
        theirs = dense.movedim(1, -1).view(ours.shape)
        pairs = [(ours, theirs)]
        pairs += zip(*(torch.autograd.grad(y.pow(2).sum(), (x, weight)) for y in (ours, theirs)), strict=True)
        errors += [float((a - b).abs().max() / b.abs().max()) for a, b in pairs]
    return max(errors)


def meta_step() -> tuple[list[float], str]:
    """The gradient of a meta-step of two tasks, as `meta_gradient` has it, and the path."""
    protocol, device = Protocol(5, 1, 1), Device(dtype=torch.float64)
    workload = Workload(Facts("classification", (1, 28, 28)), protocol, protocol, 10, TASKS)
    torch.manual_seed(0)
    learner = Maml(steps=2, inner_rate=0.1).build(workload, Conv4(width=8), device)
    learner.learn(noisy_tasks(device, range(2)), 0, 10)
    gradients = [p.grad.flatten() for p in learner.parameters() if p.grad is not None]
    return torch.cat(gradients).tolist(), learner.path


def main() -> None:
    """Print the largest relative errors by name."""
    kernels: Any = TritonKernels()
    gradient, path = meta_step()
    print(json.dumps({
        "float32": largest_error(kernels, CPU, torch.float32),
        "float64": largest_error(kernels, CPU, torch.float64),
        "product": product_error(),
        "convolutions": convolution_error(),
        "meta_gradient": gradient,
        "path": path,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
