"""Image files as one uint8 array: decoded, coloured, resized and stacked."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np

from metabench.errors import DataError

MOST_PIXELS = 1 << 26  # of one image file; more is taken for a decompression bomb
BLOCK = 2048  # files in memory at once

Fit = Literal["stretch", "crop", "pad"]


@dataclass(frozen=True)
class Shape:
    """How pictures are made alike: `size` pixels square, `colour` or grey, `fit` of what is not square.

    stretch changes the proportions, crop takes the middle square (of a picture 15 % larger for
    `margin` = 1.15, as Chen et al. 2019 do), pad adds black bars. invert makes dark ink bright.
    """

    size: int
    colour: bool = True
    fit: Fit = "stretch"
    margin: float = 1.0
    invert: bool = False

    @property
    def channels(self) -> int:
        """3 for colour, 1 for grey."""
        return 3 if self.colour else 1

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Of one example: channels, height, width."""
        return (self.channels, self.size, self.size)


def decode(content: bytes, shape: Shape, title: str) -> np.ndarray[Any, Any]:
    """One image file as [channels, size, size] uint8; raises DataError that names it where it is damaged."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise DataError(f"{title} has {opened.width}×{opened.height} pixels, more than the bound")
            opened.load()
            picture: Image.Image = _eight_bits(ImageOps.exif_transpose(opened), title)
            if picture.mode in ("P", "PA", "LA", "La", "RGBa"):
                picture = picture.convert("RGBA")  # keeps a palette's transparency for the next line
            picture = picture.convert("RGB" if shape.colour else "L")
    except DataError:
        raise
    except Exception as error:  # Pillow's formats raise many kinds for a damaged file
        raise DataError(f"{title} is no whole image ({type(error).__name__}: {error})") from error
    picture = _fitted(picture, shape)
    pixels = np.asarray(picture, dtype=np.uint8)
    if shape.invert:
        pixels = 255 - pixels
    return pixels.transpose(2, 0, 1) if shape.colour else pixels[None]


def decode_all(
    files: Iterable[tuple[int, str, Callable[[], bytes] | bytes]], shape: Shape, out: np.ndarray[Any, Any]
) -> int:
    """Decodes (row, title, content) into the rows of `out` with one thread per core; returns how many.

    Only a block of files is in memory at once, so `out` may be a memory map larger than memory.
    """
    from PIL import Image

    Image.init()  # formats register themselves here once, rather than in several threads at once
    rest: Iterator[tuple[int, str, Callable[[], bytes] | bytes]] = iter(files)
    done = 0

    def one(row: int, title: str, content: Callable[[], bytes] | bytes) -> None:
        out[row] = decode(content() if callable(content) else content, shape, title)

    with ThreadPoolExecutor() as pool:
        while block := list(islice(rest, BLOCK)):
            jobs = [pool.submit(one, *file) for file in block]
            for job in jobs:
                job.result()
            done += len(block)
    return done


def _eight_bits(picture: Any, title: str) -> Any:
    """A picture of 16 bits a pixel as one of 8, which Pillow's own conversion would cut off at 255."""
    from PIL import Image

    if picture.mode == "F":
        raise DataError(f"{title} holds floats of unknown range; save it with 8 or 16 bits a pixel")
    if not picture.mode.startswith("I"):
        return picture
    values = np.asarray(picture, dtype=np.int64)
    return Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))


def _fitted(picture: Any, shape: Shape) -> Any:
    from PIL import Image, ImageOps

    size = (shape.size, shape.size)
    if shape.fit == "pad":
        return ImageOps.pad(picture, size, Image.Resampling.LANCZOS)
    if shape.fit == "crop":
        wide, high = picture.size
        side = min(wide, high) / shape.margin
        box = ((wide - side) / 2, (high - side) / 2, (wide + side) / 2, (high + side) / 2)
        return picture.resize(size, Image.Resampling.LANCZOS, box)
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
