"""A network that was trained elsewhere: a residual one with running statistics and a last layer `fc`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from metabench import Network, setting
from metabench.learning import with_head


class Residual(nn.Module):
    """A small network in the manner of torchvision's ResNet: stem, block, pooling, `fc`."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)  # its bias is part of the running mean
        self.bn2 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores [n, classes] of x [n, channels, h, w]."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)) + x)
        y: Tensor = self.fc(self.drop(torch.flatten(self.pool(x), 1)))
        return y


@dataclass(frozen=True, kw_only=True)
class Pretrained(Network):
    """`Residual` with running statistics of inputs that are far from 0 and 1, in eval mode."""

    name: ClassVar[str] = "pretrained"
    frozen: tuple[str, ...] = setting((), "beginnings of the names of weights that stay as they are")

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """Return the network with a new head for `outputs`."""
        module = Residual(input_shape[0], 7)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(8)
            for _ in range(3):
                module(2 + 3 * torch.randn(16, *input_shape))
        module.eval()
        headed = with_head(module, "fc", outputs)
        for name, weight in headed.named_parameters():
            weight.requires_grad_(not name.startswith(self.frozen or ("none",)))
        return headed
