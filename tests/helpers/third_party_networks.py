"""Networks as a third party writes them, and what the engine must give for each of their tasks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

TASKS, N = 3, 4


class Pools(nn.Module):
    """Pooling as functions, shapes by `shape`, a mean and no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, dilation=2, padding=2)
        self.fc = nn.Linear(4, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.tanh(self.conv(x)), 2)
        x = x.reshape(x.shape[0], x.shape[1], -1)
        return self.fc(x.mean(-1))


class Branches(nn.Module):
    """Code that depends on the data: no rule, and no vmap."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x.flatten(1)[:, :8])
        return x if float(x.detach().sum()) > 1e9 else x * x.sigmoid()


class Attends(nn.Module):
    """Operations without a rule that vmap can do, around an affine batch norm (trap of second order)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(x)))
        share = torch.softmax(x.flatten(2), -1)
        return self.fc((share * x.flatten(2)).sum(-1))


def in_double(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    module = module.double()
    for p in module.parameters():
        p.data.uniform_(-1, 1)
    return module


def inputs(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(TASKS, N, *shape, generator=generator, dtype=torch.float64)


def own_weights(module: nn.Module, names: list[str] | None = None) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        n: torch.rand(TASKS, *p.shape, generator=generator, dtype=torch.float64).sub(0.5).requires_grad_()
        for n, p in module.named_parameters()
        if names is None or n in names
    }


def task_by_task(module: nn.Module, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    return torch.stack(
        [functional_call(module, {n: w[t] for n, w in weights.items()}, (x[t],)) for t in range(TASKS)]
    )


def close(actual: list[Tensor], expected: list[Tensor]) -> bool:
    largest = max(float(w.abs().max()) for w in expected)
    return all(float((f - w).abs().max()) < 1e-10 * largest for f, w in zip(actual, expected, strict=True))
