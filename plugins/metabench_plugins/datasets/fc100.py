"""FC100: CIFAR-100 split by superclass (Oreshkin, Rodríguez López and Lacoste 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from metabench import Facts, Source, Split
from metabench.data import ClassIndex, ImageDataset, RemoteFile
from metabench_plugins.datasets import _cifar100 as cifar
from metabench_plugins.datasets._split_lists import read_list

if TYPE_CHECKING:
    from metabench.device import Device

CLASSES_PER_SUPERCLASS = cifar.CLASSES // cifar.SUPERCLASSES


@dataclass(frozen=True, kw_only=True)
class Fc100(ImageDataset):
    """CIFAR-100's classes split by superclass, so that test classes are unlike training ones: 60 + 20 + 20.

    32×32 colour, 600 images of each class, normalised by the channels' mean and deviation.
    """

    name: ClassVar[str] = "fc100"

    def files(self) -> Sequence[RemoteFile]:
        """Return CIFAR-100's binary version."""
        return (cifar.ARCHIVE,)

    def describe(self) -> Facts:
        """Return constants of the package's split list."""
        classes: dict[str, int] = {
            split: CLASSES_PER_SUPERCLASS * len(names) for split, names in superclasses().items()
        }
        return Facts(
            "classification", cifar.SHAPE, None, classes, dict.fromkeys(classes, cifar.IMAGES_PER_CLASS)
        )

    def load(self, device: Device) -> Source:
        """Read the archive, or the cache of an earlier reading."""
        images, index, below = cifar.load_cifar()
        splits: dict[Split, ClassIndex] = {
            split: index.only([fine for name in names for fine in below[name]])
            for split, names in superclasses().items()
        }
        return self.source(self.name, images, splits, device, cifar.MEAN, cifar.STD)


def superclasses() -> Mapping[Split, Sequence[str]]:
    """Return the superclasses of each split."""
    classes: Mapping[Split, Sequence[str]] = read_list("fc100.json")["superclasses"]
    return classes
