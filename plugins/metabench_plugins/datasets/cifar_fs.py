"""CIFAR-FS: all of CIFAR-100 as a few-shot data set (Bertinetto et al. 2019)."""

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


@dataclass(frozen=True, kw_only=True)
class CifarFs(ImageDataset):
    """CIFAR-100's classes split at random: 64 for meta-train, 16 for validation, 20 for meta-test.

    32×32 colour, 600 images of each class, normalised by the channels' mean and deviation.
    """

    name: ClassVar[str] = "cifar-fs"

    def files(self) -> Sequence[RemoteFile]:
        """Return CIFAR-100's binary version."""
        return (cifar.ARCHIVE,)

    def describe(self) -> Facts:
        """Return constants of the package's split list."""
        classes: dict[str, int] = {split: len(names) for split, names in split_classes().items()}
        return Facts(
            "classification", cifar.SHAPE, None, classes, dict.fromkeys(classes, cifar.IMAGES_PER_CLASS)
        )

    def load(self, device: Device) -> Source:
        """Read the archive, or the cache of an earlier reading."""
        images, index, _ = cifar.load_cifar()
        splits: dict[Split, ClassIndex] = {s: index.only(names) for s, names in split_classes().items()}
        return self.source(self.name, images, splits, device, cifar.MEAN, cifar.STD)


def split_classes() -> Mapping[Split, Sequence[str]]:
    """Return the fine labels of each split."""
    classes: Mapping[Split, Sequence[str]] = read_list("cifar_fs.json")["classes"]
    return classes
