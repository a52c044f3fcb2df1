"""CUB-200-2011: photographs of 200 species of birds (Wah et al. 2011)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from metabench import DataError, Facts, Source, Split, setting
from metabench.data import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ClassIndex,
    ImageDataset,
    RemoteFile,
    Shape,
    arrange,
    cached,
    decode_all,
    member_names,
    members,
)
from metabench_plugins.datasets._split_lists import read_list

if TYPE_CHECKING:
    import numpy as np

    from metabench.device import Device

FOLDER = "CUB_200_2011/images/"


@dataclass(frozen=True, kw_only=True)
class Cub(ImageDataset):
    """200 species of birds, 11,788 colour photographs, 41 to 60 of each class.

    closer-look: every second class is meta-train, the rest in turn validation and meta-test, 100 + 50 + 50
    (Chen et al. 2019); meta-dataset: 140 + 30 + 30 (Triantafillou et al. 2020), of which 43 photographs
    are also in ImageNet. As Chen et al. do for tests, photographs are stretched to a square 15 % larger (96 ×
    96 for 84), of which the middle is kept. Departure: random crops of training (`resized_crop`) are of that
    middle too, where their code crops the photograph.
    """

    name: ClassVar[str] = "cub"
    split: str = setting("closer-look", "which split", choices=("closer-look", "meta-dataset"))
    size: int = setting(84, "pixels of a side", at_least=8, at_most=512)
    fewest: ClassVar[int] = 41
    total: ClassVar[int] = 11_788

    def files(self) -> Sequence[RemoteFile]:
        """Return the archive of Caltech."""
        return (
            RemoteFile(
                "cub/CUB_200_2011.tgz",
                (
                    "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                    "https://zenodo.org/records/8000562/files/CUB_200_2011.tgz?download=1",
                ),
                md5="97eceeb196236b17998738112f37df78",
                most=1 << 31,
            ),
        )

    def describe(self) -> Facts:
        """Return constants of the package's split lists."""
        classes: dict[str, int] = {split: len(numbers) for split, numbers in self._numbers().items()}
        return Facts(
            "classification", (3, self.size, self.size), None, classes, dict.fromkeys(classes, self.fewest)
        )

    def load(self, device: Device) -> Source:
        """Read the archive, or the cache of an earlier reading; raises DataError if it is not whole."""
        index = self._index()
        shape = Shape(self.size, fit="stretch", margin=1.15)
        images = cached(
            self.cache_name("1", shape), (int(index.count.sum()), *shape.input_shape),
            lambda out: self._fill(out, shape),
        )  # fmt: skip
        splits: dict[Split, ClassIndex] = {
            split: index.only([index.names[number - 1] for number in numbers])
            for split, numbers in self._numbers().items()
        }
        return self.source(f"cub-{self.split}", images, splits, device, IMAGENET_MEAN, IMAGENET_STD)

    def _numbers(self) -> Mapping[Split, Sequence[int]]:
        numbers: Mapping[Split, Sequence[int]] = read_list("cub.json")[self.split]
        return numbers

    def _index(self) -> ClassIndex:
        """Return the classes and their sizes, from the cache, as listing the archive takes 30 s."""
        text = cached(self.cache_name("names"), (1 << 15,), self._fill_names)
        lines = bytes(text).rstrip(b"\0").decode().split("\n")
        pairs = [line.rsplit(" ", 1) for line in lines]
        return ClassIndex.of_counts([name for name, _ in pairs], [int(count) for _, count in pairs])

    def _fill_names(self, out: np.ndarray[Any, Any]) -> None:
        import numpy as np

        index, _ = arrange(_labelled(member_names(self.files()[0].place)))
        if len(index) != 200 or int(index.count.sum()) != self.total or index.fewest < self.fewest:
            raise DataError(
                f"{self.files()[0].place} must hold {self.total} images of 200 classes, got "
                f"{int(index.count.sum())} of {len(index)}; fetch it again"
            )
        text = "\n".join(f"{n} {c}" for n, c in zip(index.names, index.count, strict=True)).encode()
        out[:] = 0
        out[: len(text)] = np.frombuffer(text, np.uint8)

    def _fill(self, out: np.ndarray[Any, Any], shape: Shape) -> None:
        path = self.files()[0].place
        _, rows = arrange(_labelled(member_names(path)))
        decode_all(
            (
                (rows[name], f"{path.name}:{name}", content)
                for name, content in members(path, rows.__contains__)
            ),
            shape,
            out,
        )


def _labelled(files: Sequence[str]) -> dict[str, str]:
    """Return the class of each photograph, from its name in the archive."""
    return {
        name: name.removeprefix(FOLDER).split("/")[0]
        for name in files
        if name.startswith(FOLDER) and name.lower().endswith(".jpg")
    }
