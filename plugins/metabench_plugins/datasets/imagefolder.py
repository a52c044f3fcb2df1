"""The user's own images: `split/class/image.*`, or `class/image.*` with split lists or fractions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from metabench import REQUIRED, DataError, Facts, Source, Split, setting
from metabench.data import ClassIndex, PictureDataset, RemoteFile, cached, data_folder
from metabench.data.cache import fingerprint
from metabench.data.classes import arrange
from metabench.data.pictures import Fit, Shape, decode_all
from metabench.data.splitting import ALIASES, by_fractions, by_list
from metabench.records import SPLITS

if TYPE_CHECKING:
    from metabench.device import Device


@dataclass(frozen=True, kw_only=True)
class ImageFolder(PictureDataset):
    """A folder of images in one folder for each class, in any format that Pillow reads.

    Either path/SPLIT/CLASS/image with train, validation (or val) and test as SPLIT, or path/CLASS/image
    with `splits`, a JSON file {"train": [class, …], …}, or else with `fractions` and `split_seed`.
    """

    name: ClassVar[str] = "imagefolder"
    path: str = setting(REQUIRED, "the folder; a relative one lies in the data folder or where you are")
    splits: str = setting("", "JSON file with the classes of each split, relative to the folder")
    fractions: tuple[float, ...] = setting((0.64, 0.16, 0.2), "shares of train, validation and test")
    split_seed: int = setting(0, "seed of a split by fractions", at_least=0)
    size: int = setting(84, "pixels of a side", at_least=1, at_most=1024)
    colour: bool = setting(True, "colour, else grey")
    fit: str = setting("stretch", "what is done to oblong images", choices=("stretch", "crop", "pad"))
    mean: tuple[float, ...] = setting((0.0,), "of each channel, of values in 0..1; taken off")
    std: tuple[float, ...] = setting((1.0,), "of each channel; divided by")

    def files(self) -> Sequence[RemoteFile]:
        """None: the folder is the user's own."""
        return ()

    def missing(self) -> str | None:
        """Says where the folder was looked for."""
        if self.folder().is_dir():
            return None
        return f"imagefolder: there is no folder {self.folder()}; set `path` to a folder of your images"

    def folder(self) -> Path:
        """Where the images are: `path` from where you are, or else from the data folder."""
        told = Path(self.path).expanduser()
        return told if told.is_absolute() or told.is_dir() else data_folder() / told

    def describe(self) -> Facts:
        """Counts the names in the folder; opens no image. Empty where there is no folder."""
        classes: dict[str, int] = {}
        images: dict[str, int] = {}
        if self.missing() is None:
            for split, labelled in self._labelled().items():
                index, _ = arrange(labelled)
                classes[split], images[split] = len(index), index.fewest
        return Facts("classification", self._shape().input_shape, None, classes, images)

    def load(self, device: Device) -> Source:
        """Decodes the images, or reads the cache of an earlier decoding; raises DataError for a bad image."""
        if self.missing() is not None:
            raise DataError(str(self.missing()))
        parts = {split: arrange(labelled) for split, labelled in self._labelled().items()}
        splits: dict[Split, ClassIndex] = {}
        files: list[str] = []
        for split, (index, rows) in parts.items():
            splits[split] = ClassIndex(index.names, index.first + len(files), index.count)
            files += list(rows)
        shape = self._shape()
        stats = [(file, os.stat(self.folder() / file)) for file in files]
        told = fingerprint(str(shape), [(file, s.st_size, s.st_mtime_ns) for file, s in stats])
        pictures = cached(
            f"imagefolder-{told}", (len(files), *shape.input_shape), lambda out: self._fill(files, shape, out)
        )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, shape.channels):
                raise DataError(f"imagefolder: {name} has {len(values)} values for {shape.channels} channels")
        return self.source("imagefolder", pictures, splits, device, self.mean, self.std)

    def _shape(self) -> Shape:
        fit: Fit = self.fit  # type: ignore[assignment]  # its choices are those of Fit
        return Shape(self.size, self.colour, fit)

    def _fill(self, files: Sequence[str], shape: Shape, out: Any) -> None:
        folder = self.folder()
        decode_all(
            ((row, str(folder / file), (folder / file).read_bytes) for row, file in enumerate(files)),
            shape,
            out,
        )

    def _labelled(self) -> dict[Split, dict[str, str]]:
        """The class of each image file, named from the folder, for each split."""
        folder = self.folder()
        tops = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and _shown(entry.name))
        named = {top: ALIASES[top] for top in tops if top in ALIASES}
        if {"train", "test"} <= set(named.values()):
            if len(set(named.values())) < len(named):
                raise DataError(f"{folder} has two folders of one split: {', '.join(named)}")
            tops = sorted(named, key=lambda top: SPLITS.index(named[top]))
            return {named[top]: dict(_classes(folder, top)) for top in tops}
        every = dict(_classes(folder, ""))
        names = sorted(set(every.values()))
        if not names:
            raise DataError(
                f"{folder} has no folder with images; they lie as CLASS/image or SPLIT/CLASS/image"
            )
        if self.splits:
            chosen = by_list(folder / self.splits, names)
        else:
            chosen = by_fractions(names, self.fractions, self.split_seed)
        return {
            split: {file: name for file, name in every.items() if name in set(part)}
            for split, part in chosen.items()
        }


def _classes(folder: Path, top: str) -> Iterator[tuple[str, str]]:
    """Each image file below folder/top, as named from the folder, and its class."""
    suffixes = _suffixes()
    for entry in sorted(os.scandir(folder / top), key=lambda entry: entry.name):
        if not entry.is_dir() or not _shown(entry.name):
            continue
        found = 0
        for path in sorted(Path(entry.path).rglob("*")):
            if path.suffix.lower() in suffixes and _shown(path.name) and path.is_file():
                found += 1
                yield path.relative_to(folder).as_posix(), entry.name
        if not found:
            raise DataError(f"the class folder {entry.path} holds no image; remove it or add some")


def _suffixes() -> set[str]:
    from PIL import Image

    Image.init()
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def _shown(name: str) -> bool:
    return not name.startswith((".", "__MACOSX"))
