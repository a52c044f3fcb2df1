"""Gaussian classes of any number, size and shape, for throughput and scaling at any size."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from metabench import Dataset, Facts, Invalid, Source, Split, setting
from metabench.data import ClassIndex, draws

if TYPE_CHECKING:
    from metabench.device import Device

CENTRE, GREY = 127.5, 32.0  # of uint8 values: the middle, and one unit of deviation
DEVIATION = (4 * (256**2 - 1) / 12) ** 0.5  # of the sum of four bytes


@dataclass(frozen=True, kw_only=True)
class Blobs(Dataset):
    """Classes are Gaussian clouds: a centre of deviation `apart`, examples around it of deviation 1.

    Generated when loaded, as uint8 (32 grey levels a unit of deviation), in any input shape: (16,) for
    points, (3, 84, 84) for arrays of mini-ImageNet's size. Inputs have mean 0 and deviation about 1.
    """

    name: ClassVar[str] = "blobs"
    shape: tuple[int, ...] = setting((16,), "of one example, e.g. [16] or [3, 84, 84]", at_least=1)
    classes: int = setting(100, "classes of meta-train", at_least=1)
    held_out: int = setting(20, "classes of validation, and of meta-test", at_least=1)
    images: int = setting(20, "examples of each class", at_least=2)
    apart: float = setting(1.0, "deviation of the class centres, in deviations of a class", at_least=0)
    variant: int = setting(0, "seed of the examples; another variant has other clouds", at_least=0)

    def describe(self) -> Facts:
        """Return what the settings say."""
        classes: dict[str, int] = dict(
            zip(("train", "validation", "test"), (self.classes, self.held_out, self.held_out), strict=True)
        )
        return Facts("classification", self.shape, None, classes, dict.fromkeys(classes, self.images))

    def load(self, device: Device) -> Source:
        """Generate the examples; raises Invalid where they would not fit in memory."""
        import psutil

        from metabench.data import TensorSource

        counts = self.describe().classes
        size = sum(counts.values()) * self.images * prod(self.shape)
        if size > psutil.virtual_memory().available:
            raise Invalid(f"blobs of these settings take {size / 2**30:.1f} GiB, more than the free memory")
        splits: dict[Split, ClassIndex] = {}
        first = 0
        for split in ("train", "validation", "test"):
            names = [f"{split}-{number}" for number in range(counts[split])]
            splits[split] = ClassIndex.of_counts(names, [self.images] * len(names), first * self.images)
            first += len(names)
        deviation = GREY / 255 * (1 + self.apart**2) ** 0.5
        return TensorSource(
            f"blobs-{self.variant}", self.examples(first), splits, device,
            mean=(CENTRE / 255,), std=(deviation,),
        )  # fmt: skip

    def examples(self, classes: int) -> np.ndarray[Any, Any]:
        """Return the examples of the first classes, [classes·images, *shape] uint8."""
        inputs = prod(self.shape)
        key = draws.key("metabench", "blobs", self.variant)
        out = np.empty((classes, self.images, inputs), dtype=np.uint8)
        for number in range(classes):
            parts = draws.streams(key, [number], 1 + self.images)[0]
            centre = self.apart * bell(parts[:1], inputs)
            out[number] = np.clip(np.rint((bell(parts[1:], inputs) + centre) * GREY + CENTRE), 0, 255)
        return out.reshape(classes * self.images, *self.shape)


def bell(streams: draws.Words, count: int) -> np.ndarray[Any, Any]:
    """Return nearly normal draws of mean 0 and deviation 1, [streams, count] float32.

    They are sums of four random bytes, integers up to the last step, so they are equal on every machine;
    3.45 is the largest.
    """
    pairs = np.uint64(0x00FF00FF00FF00FF)
    words = draws.words(streams, -(-count // 2))
    sums = (words & pairs) + ((words >> np.uint64(8)) & pairs)  # four sums of two bytes
    sums += sums >> np.uint64(32)  # the lower two are now sums of four bytes
    values = sums.astype("<u8").view("<u2").reshape(len(streams), -1, 4)[..., :2]
    flat = values.reshape(len(streams), -1)[:, :count].astype(np.float32)
    return (flat - np.float32(510)) * np.float32(1 / DEVIATION)
