"""The user's own images: `split/class/image.*`, or `class/image.*` with split lists or fractions."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from metabench import REQUIRED, DataError, Facts, Source, Split, setting
from metabench.data import (
    SUFFIXES,
    ClassIndex,
    ImageDataset,
    RemoteFile,
    Shape,
    arrange,
    by_fractions,
    by_list,
    cached,
    class_name,
    data_folder,
    decode_all,
    file_digest,
    fingerprint,
    known_split,
    require_utf8,
    split_named,
)
from metabench.records import SPLITS

if TYPE_CHECKING:
    from metabench.device import Device

log = logging.getLogger("metabench.data")


@dataclass(frozen=True, kw_only=True)
class ImageFolder(ImageDataset):
    """A folder of images with a folder for each class: PNG, JPEG, GIF, BMP, PPM, TGA, TIFF or WebP.

    Either path/SPLIT/CLASS/image with train, validation and test as SPLIT (in any usual spelling), or
    path/CLASS/image with `splits`, a JSON file {"train": [class, …], …}, or with `fractions` and
    `split_seed`. Hidden files and folders are passed over; names are compared in Unicode form NFC.
    """

    name: ClassVar[str] = "imagefolder"
    path: str = setting(REQUIRED, "the folder; a relative one lies in the data folder or where you are")
    splits: str = setting("", "JSON file with the classes of each split, relative to the folder")
    fractions: tuple[float, ...] = setting((0.64, 0.16, 0.2), "fractions of train, validation and test")
    split_seed: int = setting(0, "seed of a split by fractions", at_least=0)
    size: int = setting(84, "pixels of a side", at_least=1, at_most=1024)
    colour: bool = setting(True, "colour, else grey")
    fit: str = setting("stretch", "what is done to oblong images", choices=("stretch", "crop", "pad"))
    ground: str = setting("white", "colour under transparent pixels", choices=("white", "black"))
    mean: tuple[float, ...] = setting((0.0,), "of each channel, of values in 0..1; subtracted")
    std: tuple[float, ...] = setting((1.0,), "of each channel; divided by")
    content: str = setting("", "digest of the images; filled in by suites, and other images are refused")

    def files(self) -> Sequence[RemoteFile]:
        """Return nothing: the folder is the user's own."""
        return ()

    def missing(self) -> str | None:
        """Return where the folder was looked for, if it is absent."""
        if self.folder().is_dir():
            return None
        return f"imagefolder: there is no folder {self.folder()}; set `path` to a folder of your images"

    def folder(self) -> Path:
        """Return where the images are: `path` from where you are, or else from the data folder."""
        path = Path(self.path).expanduser()
        return path if path.is_absolute() or path.is_dir() else data_folder() / path

    def describe(self) -> Facts:
        """Count the images of each class and compute their digest; empty facts if there is no folder."""
        shape = self._shape().input_shape
        if self.missing() is not None:
            return Facts("classification", shape)
        splits, files = self._arranged()
        classes = {str(split): len(index) for split, index in splits.items()}
        images = {str(split): index.fewest for split, index in splits.items()}
        return Facts("classification", shape, None, classes, images, self._digest(splits, files))

    def load(self, device: Device) -> Source:
        """Decode the images, or read the cache of an earlier decoding; raises DataError for a bad image."""
        if self.missing() is not None:
            raise DataError(str(self.missing()))
        splits, files = self._arranged()
        content = self._digest(splits, files)
        if self.content not in ("", content):
            raise DataError(
                f"the images in {self.folder()} must have the digest {self.content}, got {content}"
            )
        shape = self._shape()
        images = cached(
            f"imagefolder-{fingerprint(content, str(shape))}",
            (len(files), *shape.input_shape),
            lambda out: self._fill(files, shape, out),
        )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, shape.channels):
                raise DataError(
                    f"imagefolder: {name} must have 1 or {shape.channels} values, got {len(values)}"
                )
        return self.source("imagefolder", images, splits, device, self.mean, self.std, content)

    def _arranged(self) -> tuple[dict[Split, ClassIndex], list[str]]:
        """Return the classes of each split, and every image file in the order of its rows."""
        splits: dict[Split, ClassIndex] = {}
        files: list[str] = []
        for split, labelled in self._labelled().items():
            index, rows = arrange(labelled)
            splits[split] = ClassIndex(index.names, index.first + len(files), index.count)
            files += list(rows)
        return splits, files

    def _digest(self, splits: Mapping[Split, ClassIndex], files: Sequence[str]) -> str:
        """Return the SHA-256 of splits, classes and the bytes of their images.

        Images are read once, and again if the size or the time of a file has changed.
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
        return Shape(self.size, self.colour, self.fit, ground=self.ground)  # type: ignore[arg-type]  # choices

    def _fill(self, files: Sequence[str], shape: Shape, out: Any) -> None:
        folder = self.folder()
        decode_all(
            ((row, str(folder / file), (folder / file).read_bytes) for row, file in enumerate(files)),
            shape,
            out,
        )

    def _labelled(self) -> dict[Split, dict[str, str]]:
        """Return the class of each image file, named from the folder, for each split."""
        folder = self.folder()
        splits = _split_folders(folder)
        if splits:
            return {split: _classes(folder, splits[split]) for split in SPLITS if split in splits}
        classes = _classes(folder, "")
        names = sorted(set(classes.values()))
        if not names:
            raise DataError(f"{folder} has no folder with images; expected CLASS/image or SPLIT/CLASS/image")
        if self.splits:
            parts = by_list(folder / self.splits, names)
        else:
            parts = by_fractions(names, self.fractions, self.split_seed)
        return {
            split: {file: name for file, name in classes.items() if name in set(part)}
            for split, part in parts.items()
        }


def _split_folders(folder: Path) -> dict[Split, str]:
    """Return the folder of each split, or nothing if the folders are classes.

    A folder named as a split is one if it holds folders and no image: `train` may also be a class, of
    vehicles. Raises DataError if a split is missing, double or unclear, before it is taken for a class.
    """
    splits: dict[Split, str] = {}
    others = []
    for top in _folders(folder):
        if _images(folder / top) or not _folders(folder / top) or not _named_as_split(top):
            others.append(top)
            continue
        split = known_split(top, folder)
        if split in splits:
            raise DataError(f"{folder} has two folders of the split {split}: {splits[split]}, {top}")
        splits[split] = top
    if splits and not {"train", "test"} <= set(splits):
        given = ", ".join(repr(top) for top in splits.values())
        raise DataError(
            f"{folder} must have a folder of train and one of test, got {given}; rename or add them"
        )
    if splits and others:
        log.warning("%s: left out, as they are no splits: %s", folder, ", ".join(others))
    return splits


def _named_as_split(name: str) -> bool:
    try:
        return split_named(name) is not None
    except DataError:
        return True  # unclear which


def _classes(folder: Path, top: str) -> dict[str, str]:
    """Return the class of each image file below folder/top; files are named from the folder."""
    classes: dict[str, str] = {}
    owners: dict[str, str] = {}
    for entry in _folders(folder / top):
        name = class_name(entry)
        if name in owners:
            raise DataError(f"{folder / top} has two folders of the class {name!r}; rename or merge them")
        owners[name] = entry
        files = list(_files(folder / top / entry))
        if not files:
            raise DataError(
                f"the class folder {folder / top / entry} holds no image; remove it or add images"
            )
        require_utf8((path.name for path in files), folder / top / entry)
        classes |= {path.relative_to(folder).as_posix(): name for path in files}
    return classes


def _files(folder: Path) -> Iterator[Path]:
    """Yield every image file below a folder, at any depth; hidden folders are passed over."""
    for place, folders, _ in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        require_utf8(folders, place)
        yield from (Path(place, name) for name in _images(Path(place)))


def _folders(folder: Path) -> list[str]:
    names = [entry.name for entry in os.scandir(folder) if entry.is_dir() and not _hidden(entry.name)]
    require_utf8(names, folder)
    return sorted(names, key=class_name)


def _images(folder: Path) -> list[str]:
    return [
        entry.name
        for entry in os.scandir(folder)
        if os.path.splitext(entry.name)[1].lower() in SUFFIXES and not _hidden(entry.name) and entry.is_file()
    ]


def _hidden(name: str) -> bool:
    """Return whether a file or folder is a system's or an editor's own: thumbnails, checkpoints, versions."""
    return name.startswith((".", "__MACOSX", "@eaDir", "$RECYCLE"))
