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
"""Of the channels of ILSVRC-2012; the usual normalisation of mini-ImageNet, tiered-ImageNet and CUB."""


@dataclass(frozen=True, kw_only=True)
class ImageDataset(FilesDataset):
    """Images in files; training images can be augmented on the device, a batch at a time."""

    flip: bool = setting(False, "mirror half of the training images")
    shift: int = setting(
        0, "maximum pixels that a training image moves on each axis (a random crop)", at_least=0
    )
    rotation: float = setting(0.0, "maximum degrees that a training image is turned by", at_least=0)
    jitter: float = setting(
        0.0, "maximum relative change of a training image's brightness, contrast and saturation", at_least=0
    )
    resized_crop: float = setting(
        0.0, "least fraction of a training image that a random crop keeps, scaled to full size; 0: no crop",
        at_least=0, at_most=1,
    )  # fmt: skip

    def source(
        self,
        identity: str,
        images: NDArray[np.uint8],
        splits: Mapping[Split, ClassIndex],
        device: Device,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        content: str = "",
    ) -> Source:
        """Return a source of tasks of images [N, channels, height, width], augmented as the settings say."""
        from metabench.data.tensor_source import TensorSource

        augment = Augment(self.flip, self.shift, self.rotation, self.jitter, self.resized_crop)
        return TensorSource(
            identity, images, splits, device, mean=mean, std=std, augment=augment or None, content=content
        )

    def cache_name(self, *parts: Any) -> str:
        """Return a name for `cached`: the data set's, with a fingerprint of these parts and of its files."""
        return f"{self.name}-{fingerprint_of(self.files(), *parts)}"


def fingerprint_of(files: Sequence[RemoteFile], *parts: Any) -> str:
    """Return 16 hexadecimal digits that change with these plain values and the files' sizes and times.

    Raises DataError where a file is absent.
    """
    try:
        stats = [(file.path, file.place.stat()) for file in files]
    except OSError as error:
        raise DataError(f"{error.filename} does not exist; run `metabench data fetch`") from None
    return fingerprint(*parts, [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats])
