"""Ripples: synthetic images, each class a wave of its own direction and length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from metabench import Dataset, Facts, Source, Split, setting
from metabench.data import ClassIndex, draws

if TYPE_CHECKING:
    from metabench.device import Device

CLASSES: dict[Split, int] = {"train": 60, "validation": 20, "test": 40}
IMAGES, SIDE = 20, 12


@dataclass(frozen=True, kw_only=True)
class Ripples(Dataset):
    """Grey images of 12 × 12; a class is a wave, its images differ in phase and noise."""

    name: ClassVar[str] = "ripples"
    noise: float = setting(0.5, "standard deviation of the noise", above=0)

    def describe(self) -> Facts:
        counts = {str(split): count for split, count in CLASSES.items()}
        return Facts("classification", (1, SIDE, SIDE), None, counts, dict.fromkeys(counts, IMAGES))

    def load(self, device: Device) -> Source:
        from metabench.data import TensorSource  # loads torch, which `metabench list` does not need

        splits: dict[Split, ClassIndex] = {}
        first = 0
        for split, count in CLASSES.items():
            names = [f"{split}-{number}" for number in range(count)]
            splits[split] = ClassIndex.of_counts(names, [IMAGES] * count, first * IMAGES)
            first += count
        return TensorSource("ripples", self.images(first), splits, device)

    def images(self, classes: int) -> np.ndarray[Any, Any]:
        """[classes · images, 1, side, side], a class's images next to each other."""
        key = draws.key("ripples")  # draws by counter: the same images on every machine
        wave = draws.uniform(draws.streams(key, range(classes)), 2, -1.0, 1.0)[:, None, :, None]
        shift = draws.uniform(draws.streams(key + 1, range(classes * IMAGES)), 1, -1.0, 1.0)
        noise = draws.normal(draws.streams(key + 2, range(classes * IMAGES)), SIDE * SIDE)
        places = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE))).reshape(2, -1)
        angle = (wave * places).sum(2) + shift.reshape(classes, IMAGES, 1)
        images = np.sin(angle).reshape(-1, SIDE * SIDE) + self.noise * noise
        return images.astype(np.float32).reshape(-1, 1, SIDE, SIDE)
