"""tiered-ImageNet: 608 classes of ImageNet split by their higher categories (Ren et al. 2018)."""

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
    Shape,
    cached,
    decode_all,
    read_pickle,
)

if TYPE_CHECKING:
    import numpy as np

    from metabench.device import Device

ZENODO = "https://zenodo.org/records/7978538/files"
UPSTREAM: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class TieredImagenet(ImageDataset):
    """608 classes of ImageNet, 779,165 colour images of 84×84: 351 for meta-train, 97 and 160.

    Normalised by ImageNet's mean and deviation of each channel. 16 GB once decoded, which stay a memory
    map where memory is smaller. Splits share no higher category.
    """

    name: ClassVar[str] = "tiered-imagenet"
    counts: ClassVar[Mapping[Split, tuple[int, int]]] = {
        "train": (351, 448_695), "validation": (97, 124_261), "test": (160, 206_209),
    }  # fmt: skip
    fewest: ClassVar[int] = 732  # images of ImageNet's smallest class
    side: ClassVar[int] = 84

    def files(self) -> Sequence[RemoteFile]:
        """Return images and labels of each split; upstream has no digests, so `load` checks the counts."""
        return tuple(
            RemoteFile(
                f"tiered-imagenet/tiered-imagenet-{UPSTREAM[split]}_{what}.pkl",
                (f"{ZENODO}/tiered-imagenet-{UPSTREAM[split]}_{what}.pkl?download=1",),
                most=1 << 34,
                by_hand=f"fetch tiered-imagenet-{UPSTREAM[split]}_{what}.pkl from "
                "https://zenodo.org/records/7978538 (or tiered_imagenet.tar, whose members lack the prefix)",
            )
            for split in self.counts
            for what in ("labels", "images_png")
        )

    def describe(self) -> Facts:
        """Return constants of the package; images is a lower bound, ImageNet's smallest class."""
        classes: dict[str, int] = {split: count for split, (count, _) in self.counts.items()}
        return Facts(
            "classification", (3, self.side, self.side), None, classes, dict.fromkeys(classes, self.fewest)
        )

    def load(self, device: Device) -> Source:
        """Read the pickles, or the cache of an earlier reading; raises DataError if counts differ."""
        splits: dict[Split, ClassIndex] = {}
        rows: dict[Split, np.ndarray[Any, Any]] = {}
        first = 0
        for split in self.counts:
            names, labels = self._labels(split)
            splits[split], rows[split] = _rows(names, labels, first)
            first += len(labels)
        shape = Shape(self.side)
        images = cached(
            self.cache_name("1"), (first, *shape.input_shape), lambda out: self._fill(out, rows, shape)
        )
        return self.source(self.name, images, splits, device, IMAGENET_MEAN, IMAGENET_STD)

    def _file(self, split: Split, what: str) -> RemoteFile:
        return self.files()[2 * list(self.counts).index(split) + (what == "images_png")]

    def _labels(self, split: Split) -> tuple[list[str], np.ndarray[Any, Any]]:
        import numpy as np

        file = self._file(split, "labels")
        document = {_text(key): value for key, value in read_pickle(file.place).items()}
        names = [_text(name) for name in document.get("label_specific_str", ())]
        labels = np.asarray(document.get("label_specific", ()), dtype=np.int64)
        if (len(names), len(labels)) != self.counts[split] or len(np.unique(labels)) != len(names):
            raise DataError(
                f"{file.place} must label {self.counts[split][1]} images of "
                f"{self.counts[split][0]} classes, got {len(labels)} of {len(names)}"
            )
        return names, labels

    def _fill(
        self, out: np.ndarray[Any, Any], rows: Mapping[Split, np.ndarray[Any, Any]], shape: Shape
    ) -> None:
        for split in self.counts:
            file = self._file(split, "images_png")
            images = read_pickle(file.place)
            if not isinstance(images, (list, tuple)) or len(images) != len(rows[split]):
                raise DataError(f"{file.place} must hold the {len(rows[split])} images of its labels")
            decode_all(
                (
                    (int(row), f"{file.place.name}[{n}]", bytes(image))
                    for n, (row, image) in enumerate(zip(rows[split], images, strict=True))
                ),
                shape,
                out,
            )


def _rows(names: Sequence[str], labels: np.ndarray[Any, Any], first: int) -> tuple[ClassIndex, Any]:
    """Return the index of a split's classes, and the row of each image once images are sorted by class."""
    import numpy as np

    index = ClassIndex.of_counts(names, np.bincount(labels, minlength=len(names)).tolist(), first)
    rows = np.empty(len(labels), dtype=np.int64)
    rows[np.argsort(labels, kind="stable")] = first + np.arange(len(labels))
    return index, rows


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
