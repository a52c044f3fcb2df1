"""mini-ImageNet in the split of Ravi and Larochelle 2017, from the cache files of Ren et al. 2018."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from metabench import DataError, Facts, Source, Split
from metabench.data import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ClassIndex,
    ImageDataset,
    RemoteFile,
    cached,
    read_pickle,
)
from metabench_plugins.datasets._split_lists import read_list

if TYPE_CHECKING:
    import numpy as np

    from metabench.device import Device

ZENODO = "https://zenodo.org/records/7978538/files"
DROPBOX: dict[Split, str] = {
    "train": "9g8c6w345s2ek03",
    "validation": "ip1b7se3gij3r1b",
    "test": "ye9jeb5tyz0x01b",
}


@dataclass(frozen=True, kw_only=True)
class MiniImagenet(ImageDataset):
    """100 classes of ImageNet, 600 colour images of 84×84 each: 64 for meta-train, 16 and 20.

    Normalised by ImageNet's mean and deviation of each channel. The files are pickles; they are read by a
    reader that admits arrays and plain containers alone.
    """

    name: ClassVar[str] = "mini-imagenet"
    images_per_class: ClassVar[int] = 600
    side: ClassVar[int] = 84

    def files(self) -> Sequence[RemoteFile]:
        """Return one pickle for each split; upstream has no digests, so `load` checks the classes."""
        return tuple(
            RemoteFile(
                f"mini-imagenet/mini-imagenet-cache-{split}.pkl",
                (
                    f"{ZENODO}/mini-imagenet-cache-{split}.pkl?download=1",
                    f"https://www.dropbox.com/s/{DROPBOX[split]}/mini-imagenet-cache-{split}.pkl?dl=1",
                ),
                most=1 << 31,
                by_hand=f"fetch mini-imagenet-cache-{split}.pkl from https://zenodo.org/records/7978538",
            )
            for split in split_classes()
        )

    def describe(self) -> Facts:
        """Return constants of the package's split list."""
        classes: dict[str, int] = {split: len(names) for split, names in split_classes().items()}
        return Facts(
            "classification",
            (3, self.side, self.side),
            None,
            classes,
            dict.fromkeys(classes, self.images_per_class),
        )

    def load(self, device: Device) -> Source:
        """Read the pickles, or the cache of an earlier reading; raises DataError for a part of them."""
        names = [name for part in split_classes().values() for name in part]
        shape = (len(names) * self.images_per_class, 3, self.side, self.side)
        images = cached(self.cache_name("1"), shape, self._fill)
        splits: dict[Split, ClassIndex] = {}
        first = 0
        for split, part in split_classes().items():
            splits[split] = ClassIndex.of_counts(part, [self.images_per_class] * len(part), first)
            first += len(part) * self.images_per_class
        return self.source(self.name, images, splits, device, IMAGENET_MEAN, IMAGENET_STD)

    def _fill(self, out: np.ndarray[Any, Any]) -> None:
        first = 0
        for file, (split, names) in zip(self.files(), split_classes().items(), strict=True):
            images, rows = _read(file, (self.side, self.side, 3))
            if set(rows) != set(names):
                raise DataError(f"{file.place} must hold the {len(names)} classes of split {split!r}")
            for name in names:
                if len(rows[name]) != self.images_per_class:
                    raise DataError(
                        f"{file.place}: the class {name!r} must have {self.images_per_class} images, "
                        f"got {len(rows[name])}"
                    )
                out[first : first + self.images_per_class] = images[rows[name]].transpose(0, 3, 1, 2)
                first += self.images_per_class


def split_classes() -> Mapping[Split, Sequence[str]]:
    """Return the synsets of each split."""
    classes: Mapping[Split, Sequence[str]] = read_list("mini_imagenet.json")["classes"]
    return classes


def _read(file: RemoteFile, shape: tuple[int, ...]) -> tuple[np.ndarray[Any, Any], dict[str, list[int]]]:
    document = {_text(key): value for key, value in read_pickle(file.place).items()}
    images, classes = document.get("image_data"), document.get("class_dict")
    if images is None or not isinstance(classes, dict) or images.dtype != "u1" or images.shape[1:] != shape:
        raise DataError(f"{file.place} must hold image_data {shape} and class_dict; fetch it again")
    return images, {_text(name): list(rows) for name, rows in classes.items()}


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
