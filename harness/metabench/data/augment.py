"""Random changes of training images, for a whole batch at once on the device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metabench.data import draws

if TYPE_CHECKING:
    from torch import Tensor

_DRAWS = 7  # words taken of each image's stream


@dataclass(frozen=True)
class Augment:
    """Flips, shifts, rotations and colour changes, drawn for each image from its own stream.

    flip: mirror half of the images left to right; shift: maximum pixels that an image moves along each
    axis, as in a random crop of the padded image; rotation: maximum angle in degrees; colour: maximum
    relative change of brightness, contrast and saturation (0.4: factors in 0.6 … 1.4). They act on
    normalised inputs, so that padding and corners are the mean of the data.
    """

    flip: bool = False
    shift: int = 0
    rotation: float = 0.0
    colour: float = 0.0

    def __bool__(self) -> bool:
        return self != Augment()

    def __call__(self, x: Tensor, noise: draws.Words) -> Tensor:
        """Return a new tensor of the shape of x, [n, C, H, W] normalised; noise: [n] streams."""
        drawn = draws.uniform(noise, _DRAWS, -1.0, 1.0)
        if self.flip or self.shift or self.rotation:
            x = self._moved(x, drawn)
        if self.colour:
            x = self._coloured(x, drawn)
        return x

    def _moved(self, x: Tensor, drawn: Any) -> Tensor:
        import numpy as np
        from torch.nn import functional as F

        height, width = x.shape[-2:]
        angle = drawn[:, 0] * math.radians(self.rotation)
        mirror = np.where(drawn[:, 1] < 0, -1.0, 1.0) if self.flip else np.ones(len(drawn))
        shift = np.floor((drawn[:, 2:4] + 1) / 2 * (2 * self.shift + 1)) - self.shift  # whole pixels
        cos, sin = np.cos(angle), np.sin(angle)
        # grid_sample's coordinates run from -1 to 1 on both axes; the ratio keeps angles on oblong images
        theta = np.stack(
            [
                np.stack([cos * mirror, -sin * height / width, 2 * shift[:, 0] / width], -1),
                np.stack([sin * mirror * width / height, cos, 2 * shift[:, 1] / height], -1),
            ],
            1,
        )
        grid = F.affine_grid(_like(theta, x), list(x.shape), align_corners=False)
        mode = "bilinear" if self.rotation else "nearest"  # flips and whole-pixel shifts stay exact
        return F.grid_sample(x, grid, mode=mode, padding_mode="zeros", align_corners=False)

    def _coloured(self, x: Tensor, drawn: Any) -> Tensor:
        brightness, contrast, saturation = (
            _like(1 + self.colour * drawn[:, place], x).view(-1, 1, 1, 1) for place in (4, 5, 6)
        )
        x = x + (brightness - 1)
        middle = x.mean((1, 2, 3), keepdim=True)
        x = middle + contrast * (x - middle)
        if x.shape[1] == 3:
            grey = x.mean(1, keepdim=True)
            x = grey + saturation * (x - grey)
        return x


def _like(values: Any, x: Tensor) -> Tensor:
    import torch

    return torch.from_numpy(values).to(x.device, x.dtype)
