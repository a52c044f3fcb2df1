"""The optimizer of learners: Adam's numbers, however weights and gradients lie in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from helpers.problems import POINTS, POINTS_TEST
from metabench import Workload
from metabench.learning import adam

WORKLOAD = Workload(POINTS, POINTS_TEST, POINTS_TEST, steps=3, tasks=4)


def by_torch(parameters: list[nn.Parameter], rate: float) -> torch.optim.Adam:
    """Adam as one operation after the other."""
    return torch.optim.Adam(parameters, rate, fused=False, foreach=False)


def turned(x: Tensor) -> Tensor:
    """The same numbers, the last axis before the first in memory."""
    return x.movedim(-1, 0).contiguous().movedim(0, -1)


@pytest.mark.parametrize("of_gradient", [torch.Tensor.contiguous, turned], ids=["straight", "turned"])
@pytest.mark.parametrize("of_weight", [torch.Tensor.contiguous, turned], ids=["straight", "turned"])
def test_adam_takes_weights_and_gradients_in_any_layout(
    of_weight: Callable[[Tensor], Tensor], of_gradient: Callable[[Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(3, 4, 2).double()
    module.weight.data = of_weight(module.weight.data)
    other = copy.deepcopy(module)
    optimizers = adam(module, 0.1, "maml", WORKLOAD), by_torch(list(other.parameters()), 0.1)

    for _ in range(3):
        for weight, same in zip(module.parameters(), other.parameters(), strict=True):
            gradient = torch.randn(weight.shape, dtype=weight.dtype)
            weight.grad, same.grad = of_gradient(gradient), gradient
        for optimizer in optimizers:
            assert optimizer is not None
            optimizer.step()

    for weight, same in zip(module.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(weight, same, rtol=1e-12, atol=1e-12)
