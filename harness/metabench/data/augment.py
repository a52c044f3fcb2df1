"""Random changes of training images, for a whole batch at once on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metabench.data import draws

if TYPE_CHECKING:
    from torch import Tensor

_DRAWS = 11  # words taken of each image's stream
_ASPECT = 4 / 3  # most that a random crop is wider than high, or higher than wide
_GREY = (0.299, 0.587, 0.114)  # of red, green and blue in a grey of the same brightness (ITU-R BT.601)


@dataclass(frozen=True)
class Augment:
    """Flips, shifts, crops, rotations and colour changes, drawn for each image from its own stream.

    flip: mirror half of the images left to right; shift: maximum pixels that an image moves along each
    axis, as in a random crop of the padded image; rotation: maximum angle in degrees; padding and corners
    are the mean of the data. resized_crop: least fraction of the area of a random crop that is scaled to the
    image's size, with an aspect of 3/4 to 4/3 and bilinear weights (Szegedy et al. 2015; 0: none); crops that
    would stick out are narrowed. colour: maximum relative change of brightness, contrast and saturation
    (0.4: factors in 0.6 … 1.4), which in this order multiply the pixels, the difference to the image's mean
    grey and the difference to a pixel's own grey; pixels are cut to 0..1 after each.
    """

    flip: bool = False
    shift: int = 0
    rotation: float = 0.0
    colour: float = 0.0
    resized_crop: float = 0.0

    def __bool__(self) -> bool:
        return self != Augment()

    def __call__(
        self,
        x: Tensor,
        noise: draws.Words,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
    ) -> Tensor:
        """Return a new tensor of the shape of x, [n, C, H, W]; noise: [n] streams.

        mean, std: by which the channels of pixels in 0..1 were normalised to x.
        """
        import numpy as np

        drawn = draws.uniform(noise, _DRAWS, -1.0, 1.0)
        if self.flip or self.shift or self.rotation or self.resized_crop:
            x = self._moved(x, drawn)
        if self.colour:
            centre, scale = (_like(np.array(values), x).view(-1, 1, 1) for values in (mean, std))
            x = (self._coloured(x * scale + centre, drawn) - centre) / scale
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
        if self.resized_crop:
            theta = self._cropped(theta, drawn, height / width)
        grid = F.affine_grid(_like(theta, x), list(x.shape), align_corners=False)
        exact = not (self.rotation or self.resized_crop)  # flips and shifts by whole pixels
        mode = "nearest" if exact else "bilinear"
        return F.grid_sample(x, grid, mode=mode, padding_mode="zeros", align_corners=False)

    def _cropped(self, theta: Any, drawn: Any, oblong: float) -> Any:
        """Return transforms [n, 2, 3] that read a random part of the image; oblong: height / width."""
        import numpy as np

        area = 1 - (1 - self.resized_crop) * (drawn[:, 7] + 1) / 2
        aspect = np.exp(drawn[:, 8] * math.log(_ASPECT))  # width / height in pixels
        wide, high = np.sqrt(area * aspect * oblong), np.sqrt(area / aspect / oblong)
        part = np.minimum(np.stack([wide, high], -1), 1.0)
        cropped = theta * part[:, :, None]
        cropped[:, :, 2] += drawn[:, 9:11] * (1 - part)
        return cropped

    def _coloured(self, pixels: Tensor, drawn: Any) -> Tensor:
        brightness, contrast, saturation = (
            _like(1 + self.colour * drawn[:, place], pixels).view(-1, 1, 1, 1) for place in (4, 5, 6)
        )
        pixels = (brightness * pixels).clamp(0, 1)
        middle = _grey(pixels).mean((1, 2, 3), keepdim=True)
        pixels = (middle + contrast * (pixels - middle)).clamp(0, 1)
        grey = _grey(pixels)
        return (grey + saturation * (pixels - grey)).clamp(0, 1)


def _grey(pixels: Tensor) -> Tensor:
    """Return the grey [n, 1, H, W] of pixels [n, C, H, W]: their own where they have no three colours."""
    if pixels.shape[1] != len(_GREY):
        return pixels.mean(1, keepdim=True)
    return sum(weight * pixels[:, place : place + 1] for place, weight in enumerate(_GREY))  # type: ignore[return-value]  # of three tensors


def _like(values: Any, x: Tensor) -> Tensor:
    from metabench.data.staging import to_device

    return to_device([values], x.device)[0].to(x.dtype)
