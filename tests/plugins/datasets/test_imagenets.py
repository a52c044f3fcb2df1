"""mini-ImageNet and tiered-ImageNet from small pickles in upstream's layout."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.archives import image_file
from metabench import DataError, Protocol, Split
from metabench.data import TensorSource
from metabench.data.image_dataset import IMAGENET_MEAN, IMAGENET_STD
from metabench.device import Device
from metabench_plugins.datasets.mini_imagenet import MiniImagenet, split_classes
from metabench_plugins.datasets.tiered_imagenet import UPSTREAM, TieredImagenet


@dataclass(frozen=True, kw_only=True)
class SmallMini(MiniImagenet):
    """mini-ImageNet with three images of 6×6 in each class."""

    images_per_class: ClassVar[int] = 3
    side: ClassVar[int] = 6


@dataclass(frozen=True, kw_only=True)
class SmallTiered(TieredImagenet):
    """tiered-ImageNet with few classes and images."""

    counts: ClassVar[Mapping[Split, tuple[int, int]]] = {
        "train": (4, 21),
        "validation": (2, 10),
        "test": (3, 13),
    }
    fewest: ClassVar[int] = 3
    side: ClassVar[int] = 12


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(tmp_path))
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))


def mini_pickle(split: Split, per_class: int = 3) -> dict[str, Any]:
    """Images whose colour tells the class and the place; rows of a class lie apart."""
    names = split_classes()[split]
    rows = np.random.default_rng(0).permutation(len(names) * per_class)
    images = np.empty((len(rows), 6, 6, 3), np.uint8)
    classes = {name: rows[n * per_class : (n + 1) * per_class].tolist() for n, name in enumerate(names)}
    for number, name in enumerate(names):
        for place, row in enumerate(classes[name]):
            images[row] = (number, place, 200)
    return {"image_data": images, "class_dict": classes}


def write_mini(folder: Path, **changed: Any) -> None:
    (folder / "mini-imagenet").mkdir()
    for split in split_classes():
        document = changed.get(split, mini_pickle(split))
        (folder / "mini-imagenet" / f"mini-imagenet-cache-{split}.pkl").write_bytes(pickle.dumps(document, 2))


def test_mini_imagenet_has_the_published_sizes() -> None:
    facts = MiniImagenet().describe()
    assert facts.classes == {"train": 64, "validation": 16, "test": 20}
    assert facts.images == {"train": 600, "validation": 600, "test": 600}
    assert facts.input_shape == (3, 84, 84)
    assert len({name for names in split_classes().values() for name in names}) == 100


def test_mini_imagenet_s_images_are_of_their_class(tmp_path: Path) -> None:
    write_mini(tmp_path)
    source = SmallMini().load(Device())
    for split in split_classes():
        drawn = source.episodes(split, Protocol(10, 1, 2), range(4), 0)
        red = (drawn.query.x[:, :, 0, 0, 0].numpy() * IMAGENET_STD[0] + IMAGENET_MEAN[0]) * 255
        document = np.take_along_axis(drawn.classes.numpy(), drawn.query.y.numpy(), 1)
        assert np.allclose(red, document, atol=0.01)


def test_mini_imagenet_is_read_from_the_cache_a_second_time(tmp_path: Path) -> None:
    write_mini(tmp_path)
    first = SmallMini().load(Device())
    for split in split_classes():
        path = tmp_path / "mini-imagenet" / f"mini-imagenet-cache-{split}.pkl"
        stat = path.stat()
        path.write_bytes(b"?" * stat.st_size)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    second = SmallMini().load(Device())
    assert isinstance(first, TensorSource)
    assert isinstance(second, TensorSource)
    assert (first.examples == second.examples).all()


@pytest.mark.parametrize("fault", ["classes", "images", "shape", "evil"])
def test_another_mini_imagenet_is_refused(tmp_path: Path, fault: str) -> None:
    document: Any = mini_pickle("test")
    match = "must hold the 20 classes of split 'test'"
    if fault == "classes":
        document["class_dict"]["n00000000"] = document["class_dict"].pop("n01930112")
    elif fault == "images":
        document["class_dict"]["n01930112"].pop()
        match = "the class 'n01930112' must have 3 images, got 2"
    elif fault == "shape":
        document["image_data"] = document["image_data"].astype(np.float32)
        match = r"must hold image_data \(6, 6, 3\) and class_dict"
    else:
        document["extra"] = Path("names a class that is no container")
        match = "only arrays and plain containers"
    write_mini(tmp_path, test=document)
    with pytest.raises(DataError, match=match):
        SmallMini().load(Device())


def test_mini_imagenet_says_where_to_fetch_it_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "run `metabench data fetch mini-imagenet`" in str(MiniImagenet().missing())
    assert all("zenodo.org/records/7978538" in file.by_hand for file in MiniImagenet().files())


def write_tiered(folder: Path, **changed: Any) -> dict[Split, NDArray[np.int64]]:
    (folder / "tiered-imagenet").mkdir()
    labels: dict[Split, NDArray[np.int64]] = {}
    for split, (classes, count) in SmallTiered.counts.items():
        labels[split] = np.random.default_rng(3).permutation(np.arange(count) % classes)
        images = [
            np.frombuffer(image_file(100 * int(label) + n), np.uint8)[:, None]
            for n, label in enumerate(labels[split])
        ]
        document = {
            "label_specific": labels[split],
            "label_general": labels[split] // 2,
            "label_specific_str": [f"{split}-{n}" for n in range(classes)],
        }
        stem = folder / "tiered-imagenet" / f"tiered-imagenet-{UPSTREAM[split]}"
        Path(f"{stem}_labels.pkl").write_bytes(pickle.dumps({**document, **changed}, 2))
        Path(f"{stem}_images_png.pkl").write_bytes(pickle.dumps(images, 2))
    return labels


def test_tiered_imagenet_has_the_published_sizes() -> None:
    assert TieredImagenet().describe().classes == {"train": 351, "validation": 97, "test": 160}
    assert sum(count for _, count in TieredImagenet.counts.values()) == 779_165


def test_tiered_imagenet_s_images_are_of_their_class(tmp_path: Path) -> None:
    labels = write_tiered(tmp_path)
    source = SmallTiered().load(Device())
    assert isinstance(source, TensorSource)
    for split, index in source.splits.items():
        for number in range(len(index)):
            for place, n in enumerate(np.flatnonzero(labels[split] == number)):
                row = index.first[number] + place
                values = np.random.default_rng(100 * number + int(n)).integers(
                    0, 256, (12, 12, 3), dtype=np.uint8
                )
                assert (source.examples[row].numpy() == values.transpose(2, 0, 1)).all()


def test_tiered_imagenet_of_other_counts_is_refused(tmp_path: Path) -> None:
    write_tiered(tmp_path, label_specific=np.arange(4))
    with pytest.raises(DataError, match="must label 21 images of 4 classes, got 4 of 4"):
        SmallTiered().load(Device())
