"""Four convolution blocks: the embedding of Vinyals et al. 2016, as MAML and most few-shot papers use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metabench import Invalid, Network, setting
from metabench.learning import Headed

BLOCKS = 4
LARGE = 32
"""Pixels of a side from which on the literature pools and keeps all places."""


@dataclass(frozen=True, kw_only=True)
class Conv4(Network):
    """Four blocks of 3 × 3 convolution, batch norm, ReLU, each halving the image by stride or by pooling.

    With strides and the mean it is the network of Finn et al. 2017 for Omniglot; with pooling and all places
    it is that of Snell et al. 2017 for all data, and of Finn et al. (with width 32), Chen et al. 2019 and
    most others for images of 84 × 84. A suite's cell whose data has sides of 32 pixels or more has pooling
    and all places unless it says otherwise, and records them; smaller images have strides and the mean.
    Departures: scales of batch norm start uniform in 0..1, as in older versions of torch (the papers: at 1,
    and Finn et al. have none); the encoder of relation networks (Sung et al. 2018) has 2 `halvings`, with no
    padding in its first two blocks, where here every block is padded.
    """

    name: ClassVar[str] = "conv4"

    downsample: str = setting("stride", "how a block halves the image", choices=("stride", "pool"))
    width: int = setting(64, "channels of each block", at_least=1)
    halvings: int = setting(4, "blocks that halve the image, from the first on", at_least=0, at_most=4)
    readout: str = setting("mean", "mean over places, or all places flattened", choices=("mean", "flatten"))

    @classmethod
    def usual_settings(cls, input_shape: tuple[int, ...]) -> Mapping[str, Any]:
        """Return pooling and all places for images of 32 pixels and more, as in the literature."""
        large = len(input_shape) == 3 and min(input_shape[1:]) >= LARGE
        return {"downsample": "pool", "readout": "flatten"} if large else {}

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """Build it: convolutions by Glorot's uniform rule, batch-norm scales uniform in 0..1, biases 0.

        The head is normal. Batch norm always uses the batch's own statistics.
        """
        if len(input_shape) != 3:
            raise Invalid(f"conv4 needs images (channels, height, width); this data has inputs {input_shape}")
        channels, height, width = input_shape
        smallest = 2**self.halvings if self.downsample == "pool" else 1
        if min(height, width) < smallest:
            raise Invalid(
                f"conv4 halves an image {self.halvings} times: {height} × {width} is too small for it"
            )
        layers: list[nn.Module] = []
        for number in range(BLOCKS):
            halves = number < self.halvings
            layers += self._block(channels, halves)
            channels = self.width
            if halves:
                height, width = self._halved(height), self._halved(width)
        layers.append(Mean() if self.readout == "mean" else nn.Flatten())
        places = 1 if self.readout == "mean" else height * width
        network = Headed(nn.Sequential(*layers), self.width * places, outputs)
        if isinstance(network.head, nn.Linear):
            nn.init.normal_(network.head.weight, std=1.0 / places)
            nn.init.zeros_(network.head.bias)
        return network

    def _halved(self, side: int) -> int:
        return side // 2 if self.downsample == "pool" else (side + 1) // 2

    def _block(self, channels: int, halves: bool) -> list[nn.Module]:
        pools = [nn.MaxPool2d(2)] if halves and self.downsample == "pool" else []
        stride = 2 if halves and self.downsample == "stride" else 1
        convolution = nn.Conv2d(channels, self.width, 3, stride=stride, padding=1)
        nn.init.xavier_uniform_(convolution.weight)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # it has a bias
        norm = nn.BatchNorm2d(self.width, track_running_stats=False)
        nn.init.uniform_(norm.weight)
        return [convolution, norm, nn.ReLU(), *pools]


class Mean(nn.Module):
    """The mean over an image's places: [n, channels, height, width] → [n, channels]."""

    def forward(self, x: Tensor) -> Tensor:
        """Average over height and width."""
        return torch.mean(x, dim=(2, 3))
