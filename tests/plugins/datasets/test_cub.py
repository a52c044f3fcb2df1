"""CUB-200-2011 from a small archive in upstream's layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from helpers.archives import image_file, write_tgz
from metabench import DataError
from metabench.data import TensorSource
from metabench.device import Device
from metabench_plugins.datasets.cub import Cub


@dataclass(frozen=True, kw_only=True)
class SmallCub(Cub):
    """CUB with two or three photographs of each class."""

    fewest: ClassVar[int] = 2
    total: ClassVar[int] = 500


def write_archive(folder: Path, classes: int = 200) -> None:
    pool = [image_file(seed, (20 + seed, 30), kind="jpeg") for seed in range(10)]
    files = [("CUB_200_2011/README", b"birds"), ("attributes.txt", b"")]
    for number in reversed(range(classes)):
        name = f"{number + 1:03d}.Bird_{number}"
        files += [
            (f"CUB_200_2011/images/{name}/Bird_{number}_{place}.jpg", pool[(number + place) % 10])
            for place in range(2 + number % 2)
        ]
    write_tgz(folder / "cub" / "CUB_200_2011.tgz", files)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(tmp_path))
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))


def test_splits_have_the_published_sizes() -> None:
    assert Cub().describe().classes == {"train": 100, "validation": 50, "test": 50}
    assert Cub(split="meta-dataset").describe().classes == {"train": 140, "validation": 30, "test": 30}


@pytest.mark.parametrize("split", ["closer-look", "meta-dataset"])
def test_every_class_is_in_one_split(tmp_path: Path, split: str) -> None:
    write_archive(tmp_path)
    source = SmallCub(split=split, size=16).load(Device())
    assert isinstance(source, TensorSource)
    names = [name for index in source.splits.values() for name in index.names]
    assert len(names) == len(set(names)) == 200
    assert tuple(source.examples.shape) == (500, 3, 16, 16)


def test_the_closer_look_split_takes_every_second_class(tmp_path: Path) -> None:
    write_archive(tmp_path)
    source = SmallCub(size=16).load(Device())
    assert isinstance(source, TensorSource)
    assert source.splits["train"].names[:2] == ("001.Bird_0", "003.Bird_2")
    assert source.splits["validation"].names[:2] == ("002.Bird_1", "006.Bird_5")
    assert source.splits["test"].names[:2] == ("004.Bird_3", "008.Bird_7")


def test_images_lie_with_their_class_whatever_the_archive_s_order(tmp_path: Path) -> None:
    write_archive(tmp_path)
    source = SmallCub(size=16).load(Device())
    assert isinstance(source, TensorSource)
    train, validation = source.splits["train"], source.splits["validation"]
    # photographs are taken from ten in turn, so classes 10 apart look the same and neighbours do not
    first, same_class, other_class = (
        int(index.first[n]) for index, n in ((train, 0), (train, 5), (validation, 0))
    )
    assert (source.examples[first] == source.examples[same_class]).all()
    assert (source.examples[first] != source.examples[other_class]).any()


def test_an_archive_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    write_archive(tmp_path, classes=199)
    with pytest.raises(DataError, match=r"must hold 500 images of 200 classes, got 497 of 199"):
        SmallCub().load(Device())
