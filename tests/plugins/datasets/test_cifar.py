"""CIFAR-FS and FC100 from CIFAR-100's binary version, in upstream's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.archives import write_tgz
from metabench import DataError, Protocol
from metabench.data import TensorSource
from metabench.device import Device
from metabench_plugins.datasets import _cifar100 as cifar
from metabench_plugins.datasets.cifar_fs import CifarFs, split_classes
from metabench_plugins.datasets.fc100 import Fc100, superclasses

FINE = sorted(name for names in split_classes().values() for name in names)
COARSE = sorted(name for names in superclasses().values() for name in names)
PARENT = np.random.default_rng(0).permutation(100) // 5  # of each fine class


def records(per_class: int) -> NDArray[np.uint8]:
    """Records in upstream's form; an image is filled with its fine label, its planes plus 0, 50 and 100."""
    fine = np.random.default_rng(1).permutation(np.tile(np.arange(100), per_class))
    records = np.empty((len(fine), cifar.RECORD), np.uint8)
    records[:, 0], records[:, 1] = PARENT[fine], fine
    for plane in range(3):
        records[:, 2 + 1024 * plane : 2 + 1024 * (plane + 1)] = fine[:, None] + 50 * plane
    return records


def write_archive(folder: Path, train: int = 500, fine: list[str] = FINE) -> None:
    top = "cifar-100-binary"
    files = {
        f"{top}/train.bin": records(train).tobytes(),
        f"{top}/fine_label_names.txt": "\n".join([*fine, ""]).encode(),
        f"{top}/test.bin": records(100).tobytes(),
        f"{top}/coarse_label_names.txt": "\n".join([*COARSE, ""]).encode(),
    }
    write_tgz(folder / cifar.ARCHIVE.path, files.items())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cifar")
    write_archive(folder)
    return folder


@pytest.fixture
def _whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(folder))
    monkeypatch.setenv("METABENCH_CACHE", str(folder / "cache"))


@pytest.mark.usefixtures("_whole")
@pytest.mark.parametrize("dataset", [CifarFs(), Fc100()])
def test_what_is_described_is_what_is_loaded(dataset: CifarFs | Fc100) -> None:
    source, facts = dataset.load(Device()), dataset.describe()
    assert isinstance(source, TensorSource)
    assert facts.classes == {split: len(index) for split, index in source.splits.items()}
    assert facts.images == {split: index.fewest for split, index in source.splits.items()}
    assert len(source.examples) == 60_000


def test_splits_have_the_published_sizes() -> None:
    assert CifarFs().describe().classes == {"train": 64, "validation": 16, "test": 20}
    assert Fc100().describe().classes == {"train": 60, "validation": 20, "test": 20}


@pytest.mark.usefixtures("_whole")
def test_images_are_of_their_class_with_planes_in_order() -> None:
    source = CifarFs().load(Device())
    drawn = source.episodes("test", Protocol(20, 1, 2), range(3), 0)
    planes = drawn.query.x[..., 5, 9].numpy() * cifar.STD + cifar.MEAN
    label = np.array([FINE.index(name) for name in split_classes()["test"]])[drawn.classes.numpy()]
    for plane in range(3):
        expected = np.take_along_axis(label, drawn.query.y.numpy(), 1) + 50 * plane
        assert np.allclose(planes[..., plane] * 255, expected, atol=0.01)


@pytest.mark.usefixtures("_whole")
def test_fc100_keeps_superclasses_apart() -> None:
    source = Fc100().load(Device())
    assert isinstance(source, TensorSource)
    for split, names in superclasses().items():
        parents = {COARSE[PARENT[FINE.index(name)]] for name in source.splits[split].names}
        assert parents == set(names)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"train": 1}, "is not CIFAR-100's binary version"),
        ({"train": 1, "fine": FINE[:-1]}, "is not CIFAR-100's binary version"),
    ],
)
def test_another_archive_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], fault: str
) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(tmp_path))
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    write_archive(tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=fault):
        CifarFs().load(Device())


def test_an_archive_that_lacks_a_member_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(tmp_path))
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    write_tgz(tmp_path / cifar.ARCHIVE.path, [("cifar-100-binary/train.bin", b"")])
    with pytest.raises(DataError, match=r"lacks coarse_label_names.txt, fine_label_names.txt, test.bin"):
        Fc100().load(Device())
