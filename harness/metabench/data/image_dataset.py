"""The base of image data sets: files that are fetched, and augmentation as settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metabench.contracts import Source
from metabench.data.augment import Augment
from metabench.data.cache import fingerprint
from metabench.data.classes import ClassIndex
from metabench.data.remote import FilesDataset, RemoteFile
from metabench.errors import DataError
from metabench.records.cell import Split
from metabench.settings import setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from metabench.device.device import Device

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ILSVRC-2012's channels, as everybody's networks for mini-ImageNet, tiered-ImageNet and CUB use them."""


@dataclass(frozen=True, kw_only=True)
class PictureDataset(FilesDataset):
    """Images in files; training images may be changed at random, on the device, a batch at a time."""

    flip: bool = setting(False, "mirror half of the training images")
    shift: int = setting(
        0, "most pixels that a training image moves on each axis (a random crop)", at_least=0
    )
    rotation: float = setting(0.0, "most degrees that a training image is turned by", at_least=0)
    jitter: float = setting(
        0.0, "most relative change of a training image's brightness, contrast and saturation", at_least=0
    )

    def source(
        self,
        identity: str,
        pictures: NDArray[np.uint8],
        splits: Mapping[Split, ClassIndex],
        device: Device,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        content: str = "",
    ) -> Source:
        """Pictures [N, channels, height, width] as a source of tasks, with this data set's augmentation."""
        from metabench.data.tensor_source import TableSource

        augment = Augment(self.flip, self.shift, self.rotation, self.jitter)
        return TableSource(
            identity, pictures, splits, device, mean=mean, std=std, augment=augment or None, content=content
        )

    def cache_name(self, *parts: Any) -> str:
        """A name for `cached`: the data set's, and a fingerprint of these parts and of the files at hand."""
        return f"{self.name}-{fingerprint_of(self.files(), *parts)}"


def fingerprint_of(files: Sequence[RemoteFile], *parts: Any) -> str:
    """Sixteen digits that change with these plain values and with the files at hand (size and time).

    Raises DataError where a file is absent.
    """
    try:
        stats = [(file.path, file.place.stat()) for file in files]
    except OSError as error:
        raise DataError(f"{error.filename} is absent: `metabench data fetch` brings it") from None
    return fingerprint(*parts, [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats])
