"""Letters of the fonts that matplotlib ships: a real few-shot image task that needs no download.

Twelve DejaVu text faces give each letter twelve shapes. The scripts are split: Latin is meta-train, Greek
and Cyrillic are validation, Armenian and Georgian are meta-test. `glyphs.json` lists the letters left
once near-equal shapes were dropped, by the rule of `choose` (tests hold the list to it).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from metabench import DataError, Dataset, Facts, Source, Split, setting
from metabench.data import ClassIndex, cached, draws

if TYPE_CHECKING:
    from metabench.device import Device

FACES = tuple(
    f"DejaVu{face}.ttf"
    for face in (
        "Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique",
        "SansMono", "SansMono-Bold", "SansMono-Oblique", "SansMono-BoldOblique",
        "Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic",
    )
)  # fmt: skip
SCRIPTS: dict[Split, tuple[str, ...]] = {
    "train": ("LATIN",),
    "validation": ("GREEK", "CYRILLIC"),
    "test": ("ARMENIAN", "GEORGIAN"),
}
SIZE = 28
LETTER = 20.0  # pixels of a letter's longer side, before its random change
ANGLE, SHEAR, SCALE, SHIFT = 15.0, 0.2, 0.2, 2.0  # degrees, ratio, log ratio, pixels: largest changes
SHRINK = 0.1  # log ratio that keeps most enlarged letters inside the image

OUTLINES = "0bc139e358e0a03430d599fcbfccb39752a50c6f521599cbe102f13938dcd7ae"
"""SHA-256 of all outlines; another digest means other font files, and so other tasks."""
IMAGES = "3857b33c65904de34aa1d4d474b1960015b85c8321d64ad2377d434a1e4cdccd"
"""SHA-256 of the images under default settings, by `metabench.data.cache.digest`."""


@dataclass(frozen=True, kw_only=True)
class Glyphs(Dataset):
    """Printed letters, 28×28 grey: classes are letters, and no script is in two splits.

    Every image has one of twelve typefaces and a random rotation, shear, scale and shift of its own.
    Rendered in seconds at first use, then cached. Nearest neighbour on pixels: 43 % at 5 ways, 23 % at 20.
    """

    name: ClassVar[str] = "glyphs"
    images: int = setting(24, "images of each letter; image j has typeface j mod 12", at_least=2)
    variant: int = setting(0, "seed of the random changes; another variant has other images", at_least=0)

    def describe(self) -> Facts:
        """Return constants of the package: 386, 319 and 118 letters."""
        classes: dict[str, int] = {split: len(names) for split, names in letters().items()}
        groups: dict[str, tuple[str, ...]] = {
            split: tuple(f"script:{script.title()}" for script in scripts)
            for split, scripts in SCRIPTS.items()
        }
        images = dict.fromkeys(classes, self.images)
        return Facts("classification", (1, SIZE, SIZE), None, classes, images, groups=groups)

    def load(self, device: Device) -> Source:
        """Render the letters or read them from the cache; raises DataError if the fonts are others."""
        from metabench.data import TensorSource

        default = (self.images, self.variant) == (24, 0)
        name = f"glyphs-{OUTLINES[:8]}-{self.images}-{self.variant}"
        count = sum(map(len, letters().values())) * self.images
        images = cached(name, (count, 1, SIZE, SIZE), self.render, sha256=IMAGES if default else None)
        splits: dict[Split, ClassIndex] = {}
        first = 0
        for split, names in letters().items():
            splits[split] = ClassIndex.of_counts(names, [self.images] * len(names), first)
            first += self.images * len(names)
        return TensorSource(f"glyphs-{self.variant}", images, splits, device)

    def render(self, out: np.ndarray[Any, Any]) -> None:
        """Draw all images into `out` [letters·images, 1, 28, 28]: train, validation, test in turn."""
        from metabench_plugins.datasets._outlines import rasterise

        chosen = [letter for names in letters().values() for letter in names]
        outlines = font_outlines(chosen)
        if outlines_digest(outlines) != OUTLINES:
            raise DataError(
                f"the DejaVu fonts in {font_folder()} must be those of matplotlib's wheels, or tasks "
                "would differ between machines; install matplotlib from PyPI into this environment"
            )
        image = np.arange(len(chosen) * self.images)
        which = image // self.images * len(FACES) + image % self.images % len(FACES)
        matrices, moves = _changes(draws.streams(draws.key("metabench", "glyphs", self.variant), image))
        out[:, 0] = rasterise(outlines, which, matrices, moves, SIZE)


@cache
def letters() -> dict[Split, list[str]]:
    """Return the letters of each split."""
    text = resources.files(__package__).joinpath("glyphs.json").read_text(encoding="utf-8")
    by_split: dict[Split, str] = json.loads(text)["letters"]
    return {split: list(by_split[split]) for split in SCRIPTS}


def font_folder() -> Path:
    """Return the folder of the fonts of this environment's matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def font_outlines(chosen: Sequence[str]) -> list[Any]:
    """Return the centred outlines [edges, 2, 2] of these letters, all faces of the first letter first."""
    from metabench_plugins.datasets._outlines import centred, letter_edges

    faces = [letter_edges(font_folder() / face, chosen) for face in FACES]
    return [centred(face[letter], LETTER) for letter in chosen for face in faces]


def outlines_digest(outlines: Sequence[Any]) -> str:
    """Return the SHA-256 of all outlines in units of 2**-20 pixels, which all machines round alike."""
    sha = hashlib.sha256()
    for outline in outlines:
        sha.update(np.round(outline * 2.0**20).astype("<i8").tobytes())
    return sha.hexdigest()


def choose(candidates: Sequence[str], likeness: Any) -> dict[Split, list[str]]:
    """Return the letters of each split that stay when near-equal shapes are dropped.

    likeness: [n, n], the correlation of two letters' images, mean over the faces. Test letters choose
    first, then validation, then train, each in the order of their code points; a letter is dropped if
    an earlier letter of another split is more than 0.85 like it, or of its own split more than 0.92.
    """
    import unicodedata

    of = {script: split for split, scripts in SCRIPTS.items() for script in scripts}
    script = [unicodedata.name(letter, "?").split()[0] for letter in candidates]
    kept: dict[Split, list[int]] = {}
    for split in reversed(SCRIPTS):
        kept[split] = []
        others = [place for mine, places in kept.items() if mine != split for place in places]
        for place in sorted(range(len(candidates)), key=lambda p: candidates[p]):
            if of.get(script[place]) != split or (likeness[place, others] > 0.85).any():
                continue
            if not (likeness[place, kept[split]] > 0.92).any():
                kept[split].append(place)
    return {split: [candidates[place] for place in kept[split]] for split in SCRIPTS}


def likeness(chosen: Sequence[str]) -> Any:
    """Return [n, n]: the correlation of two letters, centred and of equal size, as the mean over faces."""
    from metabench_plugins.datasets._outlines import rasterise

    outlines = font_outlines(chosen)
    count = len(outlines)
    still = np.tile(np.eye(2), (count, 1, 1)), np.zeros((count, 2))
    flat = rasterise(outlines, np.arange(count), *still, SIZE).reshape(len(chosen), len(FACES), -1)
    x = flat - flat.mean(2, keepdims=True, dtype=np.float32)
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    return sum(x[:, face] @ x[:, face].T for face in range(len(FACES))) / len(FACES)


def _changes(streams: draws.Words) -> tuple[Any, Any]:
    """Return a rotation of a shear of a scaling [n, 2, 2] and a shift in pixels [n, 2], of each stream."""
    drawn = draws.uniform(streams, 6, -1.0, 1.0)
    cos, sin = np.cos(np.radians(ANGLE) * drawn[:, 0]), np.sin(np.radians(ANGLE) * drawn[:, 0])
    wide, high = np.exp(SCALE * drawn[:, 1] - SHRINK), np.exp(SCALE * drawn[:, 2] - SHRINK)
    slant = SHEAR * drawn[:, 3] * high
    rows = [cos * wide, cos * slant - sin * high, sin * wide, sin * slant + cos * high]
    return np.stack(rows, -1).reshape(-1, 2, 2), SHIFT * drawn[:, 4:6]
