"""Image files as one uint8 array: decoded, converted to colour or grey, resized and stacked."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np

from metabench.errors import DataError

MAX_PIXELS = 1 << 26  # of one image file; a larger one is refused as a decompression bomb
BLOCK = 2048  # files in memory at once

FORMATS: Mapping[str, tuple[str, ...]] = {
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TGA": (".tga",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
"""Formats that are decoded, with their suffixes; without PostScript, which would start an interpreter."""

SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)

Fit = Literal["stretch", "crop", "pad"]
Ground = Literal["white", "black"]


@dataclass(frozen=True)
class Shape:
    """The form that images are brought to: `size` pixels square, `colour` or grey, `fit` of oblong images.

    stretch changes the proportions, crop takes the middle square, pad adds black bars. Of a stretched or
    cropped image that is larger by `margin` the middle is kept: 1.15 with stretch is the preparation of Chen
    et al. 2019. ground is the colour under transparent pixels. invert makes dark ink bright.
    """

    size: int
    colour: bool = True
    fit: Fit = "stretch"
    margin: float = 1.0
    ground: Ground = "white"
    invert: bool = False

    @property
    def channels(self) -> int:
        """Return 3 for colour, 1 for grey."""
        return 3 if self.colour else 1

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Return the shape of one example: channels, height, width."""
        return (self.channels, self.size, self.size)


def decode(content: bytes, shape: Shape, title: str) -> np.ndarray[Any, Any]:
    """Return an image file as [channels, size, size] uint8; raises DataError, naming it, if it is damaged."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=tuple(FORMATS)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise DataError(f"{title} has {opened.width}×{opened.height} pixels, more than the bound")
            opened.load()
            image: Image.Image = _eight_bits(ImageOps.exif_transpose(opened), title)
            image = _opaque(image, shape.ground).convert("RGB" if shape.colour else "L")
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{title} must be an image in one of the formats {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow's formats raise many kinds for a damaged file
        raise DataError(f"{title} is no whole image ({type(error).__name__}: {error})") from error
    image = _fitted(image, shape)
    pixels = np.asarray(image, dtype=np.uint8)
    if shape.invert:
        pixels = 255 - pixels
    return pixels.transpose(2, 0, 1) if shape.colour else pixels[None]


def decode_all(
    files: Iterable[tuple[int, str, Callable[[], bytes] | bytes]], shape: Shape, out: np.ndarray[Any, Any]
) -> int:
    """Decode (row, title, content) into the rows of `out` with one thread per core; return their number.

    Only one block of files is in memory at a time, so `out` may be a memory map larger than memory.
    """
    from PIL import Image

    Image.init()  # formats register themselves here once, rather than in several threads at once
    rest: Iterator[tuple[int, str, Callable[[], bytes] | bytes]] = iter(files)
    done = 0

    def decode_into(row: int, title: str, content: Callable[[], bytes] | bytes) -> None:
        out[row] = decode(content() if callable(content) else content, shape, title)

    with ThreadPoolExecutor() as pool:
        while block := list(islice(rest, BLOCK)):
            jobs = [pool.submit(decode_into, *file) for file in block]
            for job in jobs:
                job.result()
            done += len(block)
    return done


def _eight_bits(image: Any, title: str) -> Any:
    """Scale an image of 16 bits a pixel to 8, where Pillow's own conversion would clip at 255."""
    from PIL import Image

    if image.mode == "F":
        raise DataError(f"{title} holds floats of unknown range; save it with 8 or 16 bits a pixel")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image, dtype=np.int64)
    return Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))


def _opaque(image: Any, ground: Ground) -> Any:
    """Composite an image with transparent pixels on an even ground; others are returned as they are."""
    from PIL import Image

    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode not in ("LA", "La", "PA", "RGBA", "RGBa") and "transparency" not in image.info:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, ground), layer)


def _fitted(image: Any, shape: Shape) -> Any:
    from PIL import Image, ImageOps

    size = (shape.size, shape.size)
    if shape.fit == "pad":
        return ImageOps.pad(image, size, Image.Resampling.LANCZOS)
    if shape.fit == "stretch" and shape.margin > 1:
        side = int(shape.size * shape.margin)
        edge = round((side - shape.size) / 2)
        middle = (edge, edge, edge + shape.size, edge + shape.size)
        return image.resize((side, side), Image.Resampling.LANCZOS).crop(middle)
    if shape.fit == "crop":
        wide, high = image.size
        side = min(wide, high) / shape.margin
        box = ((wide - side) / 2, (high - side) / 2, (wide + side) / 2, (high + side) / 2)
        return image.resize(size, Image.Resampling.LANCZOS, box)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
