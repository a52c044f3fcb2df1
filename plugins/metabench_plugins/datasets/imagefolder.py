"""The user's own images: `split/class/image.*`, or `class/image.*` with split lists or fractions."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from metabench import REQUIRED, DataError, Facts, Source, Split, setting
from metabench.data import (
    ClassIndex,
    ImageDataset,
    RemoteFile,
    Shape,
    arrange,
    by_fractions,
    by_list,
    cached,
    data_folder,
    decode_all,
    file_digest,
    fingerprint,
    split_named,
)
from metabench.records import SPLITS

if TYPE_CHECKING:
    from metabench.device import Device


@dataclass(frozen=True, kw_only=True)
class ImageFolder(ImageDataset):
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
    content: str = setting("", "digest of the images; filled in by suites, and other images are refused")

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
        """Counts the names in the folder and takes the files' digest. Empty where there is no folder."""
        shape = self._shape().input_shape
        if self.missing() is not None:
            return Facts("classification", shape)
        splits, files = self._arranged()
        classes = {str(split): len(index) for split, index in splits.items()}
        images = {str(split): index.fewest for split, index in splits.items()}
        return Facts("classification", shape, None, classes, images, self._digest(splits, files))

    def load(self, device: Device) -> Source:
        """Decodes the images, or reads the cache of an earlier decoding; raises DataError for a bad image."""
        if self.missing() is not None:
            raise DataError(str(self.missing()))
        splits, files = self._arranged()
        content = self._digest(splits, files)
        if self.content not in ("", content):
            raise DataError(
                f"imagefolder: the images in {self.folder()} have the digest {content}, not {self.content}"
            )
        shape = self._shape()
        images = cached(
            f"imagefolder-{fingerprint(content, str(shape))}",
            (len(files), *shape.input_shape),
            lambda out: self._fill(files, shape, out),
        )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, shape.channels):
                raise DataError(f"imagefolder: {name} has {len(values)} values for {shape.channels} channels")
        return self.source("imagefolder", images, splits, device, self.mean, self.std, content)

    def _arranged(self) -> tuple[dict[Split, ClassIndex], list[str]]:
        """The classes of each split, and every image file in the order of its rows."""
        splits: dict[Split, ClassIndex] = {}
        files: list[str] = []
        for split, labelled in self._labelled().items():
            index, rows = arrange(labelled)
            splits[split] = ClassIndex(index.names, index.first + len(files), index.count)
            files += list(rows)
        return splits, files

    def _digest(self, splits: Mapping[Split, ClassIndex], files: Sequence[str]) -> str:
        """SHA-256 over splits, classes and the bytes of their images.

        They are read once, and again where the size or the time of a file has changed.
        """
        folder = self.folder().resolve()
        stats = [(file, os.stat(folder / file)) for file in files]
        stamp = fingerprint(str(folder), [(file, s.st_size, s.st_mtime_ns) for file, s in stats])

        def fill(out: Any) -> None:
            sha = hashlib.sha256()
            for file in files:
                sha.update(bytes.fromhex(file_digest(folder / file)))
            out[:] = np.frombuffer(sha.digest(), np.uint8)

        images = cached(f"imagefolder-digest-{stamp}", (32,), fill)
        classes = [[split, index.names, index.count.tolist()] for split, index in splits.items()]
        return hashlib.sha256(json.dumps(classes).encode() + images.tobytes()).hexdigest()

    def _shape(self) -> Shape:
        return Shape(self.size, self.colour, self.fit)  # type: ignore[arg-type]  # choices of the setting

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
        named = {top: split for top in tops if (split := split_named(top)) is not None}
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
