"""ResNet-12: the residual network of most recent few-shot results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Invalid, Network, setting
from metabench.learning import Headed

SMALLEST = 16


@dataclass(frozen=True, kw_only=True)
class ResNet12(Network):
    """Four residual stages of three 3 × 3 convolutions, each halving the image by pooling, then the mean.

    K. Lee, S. Maji, A. Ravichandran, S. Soatto: Meta-Learning with Differentiable Convex Optimization, CVPR
    2019, section 4.1 (64, 160, 320, 640 channels, leaky ReLU of slope 0.1). Departure: no DropBlock. What it
    drops would be drawn inside of the network, which knows no task: it would depend on how tasks are shared
    out to chunks and ranks.
    """

    name: ClassVar[str] = "resnet12"

    width: int = setting(
        64, "channels of the first stage; the others have 2.5, 5 and 10 times as many", at_least=2
    )

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """Build it, convolutions by He's normal rule; batch norm always uses the batch's own statistics."""
        if len(input_shape) != 3:
            raise Invalid(
                f"resnet12 needs images (channels, height, width); this data has inputs {input_shape}"
            )
        channels, height, width = input_shape
        if min(height, width) < SMALLEST:
            raise Invalid(f"resnet12 halves an image 4 times: {height} × {width} is too small for it")
        stages: list[nn.Module] = []
        for next_channels in (self.width, self.width * 5 // 2, self.width * 5, self.width * 10):
            stages.append(Stage(channels, next_channels))
            channels = next_channels
        features = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        for layer in features.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=0.1, mode="fan_out", nonlinearity="leaky_relu")
        return Headed(features, channels, outputs)


class Stage(nn.Module):
    """x → pool(leaky(three convolutions of x + one 1 × 1 convolution of x))."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, width, 3, padding=1, bias=False) for before in (channels, width, width)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, track_running_stats=False) for _ in range(3))
        self.shortcut = nn.Conv2d(channels, width, 1, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(width, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, channels, height, width] to [n, width, height / 2, width / 2], rounded down."""
        y = x
        for convolution, norm in zip(self.convolutions[:2], self.norms[:2], strict=True):
            y = F.leaky_relu(norm(convolution(y)), 0.1)
        y = self.norms[2](self.convolutions[2](y)) + self.shortcut_norm(self.shortcut(x))
        return torch.max_pool2d(F.leaky_relu(y, 0.1), 2)
