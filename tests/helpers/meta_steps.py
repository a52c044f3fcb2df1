"""A few meta-steps of MAML on any device, for comparisons between devices and numbers of ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from metabench import Episodes, Examples, Facts, Protocol, Workload
from metabench.device import Device
from metabench_plugins.algorithms.maml import Maml
from metabench_plugins.networks.conv4 import Conv4

TASKS = 4


def noisy_tasks(device: Device, numbers: range = range(TASKS)) -> Episodes:
    """The tasks of these numbers, five classes of noisy images of one support and one query each."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, TASKS, 5, 1, 28, 28, generator=generator, dtype=torch.float64)
    span = slice(numbers.start, numbers.stop)
    support_x, query_x = x[:, span].to(device.torch, device.dtype)
    y = torch.arange(5, device=device.torch).repeat(len(numbers), 1)
    index = torch.arange(numbers.start, numbers.stop, device=device.torch)
    return Episodes(Examples(support_x, y), Examples(query_x, y.clone()), y.clone(), index)


def meta_gradient(device: Device, execution: str = "eager", numbers: range = range(TASKS)) -> Tensor:
    """The second meta-step's gradient in one row, on the CPU: a captured step is replayed by then."""
    protocol = Protocol(5, 1, 1)
    workload = Workload(Facts("classification", (1, 28, 28)), protocol, protocol, 10, TASKS)
    torch.manual_seed(0)
    learner = Maml(steps=2, inner_rate=0.1, execution=execution).build(workload, Conv4(width=8), device)
    with device.numerics():
        for step in range(2):
            learner.learn(noisy_tasks(device, numbers), step, 10)
    device.average_gradients(learner.parameters(), len(numbers) / TASKS)
    return torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None]).cpu()
