"""Omniglot: its splits, its archives in upstream's layout, real drawings."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.archives import drawing, omniglot_files, write_zip
from metabench import DataError, Protocol
from metabench.data import TensorSource
from metabench.device import Device
from metabench_plugins.datasets.omniglot import HELD_OUT, Omniglot, lake, vinyals
from metabench_plugins.datasets.omniglot_small import OmniglotSmall


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(tmp_path))
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with both archives, all 1,623 characters in upstream's layout."""
    folder = tmp_path_factory.mktemp("omniglot")
    for name, splits in {"background": ("train", "validation"), "evaluation": ("test",)}.items():
        characters = [character for split in splits for character in lake()[split]]  # type: ignore[index]
        members = omniglot_files(f"images_{name}", characters)
        write_zip(folder / "omniglot" / f"images_{name}.zip", members)
    return folder


def test_vinyals_split_has_the_published_sizes() -> None:
    assert [len(names) for names in vinyals().values()] == [1028, 172, 423]
    every = [name for names in vinyals().values() for name in names]
    assert len(set(every)) == 1623
    assert len({name.split("/")[0] for name in every}) == 50


def test_lake_s_split_keeps_alphabets_apart() -> None:
    parts = {split: {name.split("/")[0] for name in names} for split, names in lake().items()}
    assert not parts["train"] & parts["test"]
    assert not parts["train"] & parts["validation"]
    assert len(lake()["train"]) + len(lake()["validation"]) == 964
    assert len(lake()["test"]) == 659
    assert parts["validation"] == set(HELD_OUT)


def test_what_is_described_is_what_is_loaded(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(whole))
    monkeypatch.setenv("METABENCH_CACHE", str(whole / "cache"))
    for dataset in (Omniglot(size=8), Omniglot(size=8, split="lake", rotations=False)):
        source, facts = dataset.load(Device()), dataset.describe()
        assert isinstance(source, TensorSource)
        assert facts.classes == {split: len(index) for split, index in source.splits.items()}
        assert facts.images == {split: index.fewest for split, index in source.splits.items()}
        assert len(source.examples) == 1623 * 20
    assert Omniglot().describe().classes == {"train": 4112, "validation": 688, "test": 1692}


def test_absent_archives_are_told_with_the_command(tmp_path: Path) -> None:
    reason = Omniglot().missing()
    assert reason is not None
    assert "images_background.zip is absent and 1 more: run `metabench data fetch omniglot`" in reason


def test_an_absent_character_is_named(tmp_path: Path) -> None:
    write_zip(
        tmp_path / "omniglot" / "images_background.zip",
        omniglot_files("images_background", ["Greek/character01"]),
    )
    write_zip(tmp_path / "omniglot" / "images_evaluation.zip", {})
    with pytest.raises(
        DataError, match=r"'Alphabet_of_the_Magi/character01' must have 20 images, got 0, in .*zip"
    ):
        Omniglot().load(Device())


def test_real_drawings_are_bright_ink_on_black(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from metabench_plugins.datasets.omniglot_small import OmniglotSmall

    monkeypatch.setenv("METABENCH_DATA", str(real_data))
    dataset = OmniglotSmall()
    source, facts = dataset.load(Device()), dataset.describe()
    assert isinstance(source, TensorSource)
    assert facts.classes == {split: len(index) for split, index in source.splits.items()}
    assert len(source.examples) == (114 + 22 + 106) * 20
    drawn = source.episodes("test", Protocol(5, 1, 5), range(300), 2026)
    assert 0.03 < float(drawn.query.x.mean()) < 0.2
    assert float(drawn.query.x.max()) > 0.9
    nearest = torch.cdist(drawn.query.x.flatten(2), drawn.support.x.flatten(2)).argmin(-1)
    assert 0.35 < float((nearest == drawn.query.y).float().mean()) < 0.55


def test_real_alphabets_are_in_one_split_each(real_data: Path) -> None:
    from metabench_plugins.datasets.omniglot_small import ALPHABETS, characters

    assert {split: len(names) for split, names in characters().items()} == {
        "train": 114, "validation": 22, "test": 106,
    }  # fmt: skip
    every = [alphabet for alphabets in ALPHABETS.values() for alphabet in alphabets]
    assert len(set(every)) == len(every)


def test_greek_and_latin_of_both_small_archives_count_once(tmp_path: Path) -> None:
    from metabench_plugins.datasets.omniglot_small import OmniglotSmall, characters

    first = omniglot_files("images_background_small1", [*characters()["train"], *characters()["validation"]])
    twice = [name for name in characters()["train"] if name.startswith(("Greek", "Latin"))]
    second = omniglot_files("images_background_small2", [*twice, *characters()["test"]])
    write_zip(tmp_path / "omniglot" / "images_background_small1.zip", first)
    write_zip(tmp_path / "omniglot" / "images_background_small2.zip", second)
    source = OmniglotSmall(size=8).load(Device())
    assert isinstance(source, TensorSource)
    assert len(source.examples) == 242 * 20


def test_a_truncated_drawing_is_named(tmp_path: Path) -> None:
    from metabench_plugins.datasets.omniglot_small import OmniglotSmall, characters

    members = omniglot_files(
        "images_background_small1", [*characters()["train"], *characters()["validation"]]
    )
    broken = next(name for name in members if "Korean/character07" in name)
    members[broken] = drawing(1)[:-40]
    write_zip(tmp_path / "omniglot" / "images_background_small1.zip", members)
    write_zip(
        tmp_path / "omniglot" / "images_background_small2.zip",
        omniglot_files("images_background_small2", characters()["test"]),
    )
    with pytest.raises(DataError, match=f"small1.zip:{broken.partition('/')[2]} is no whole image"):
        OmniglotSmall().load(Device())


def test_a_class_with_too_few_drawings_is_named(tmp_path: Path) -> None:
    from metabench_plugins.datasets.omniglot_small import OmniglotSmall, characters

    members = omniglot_files(
        "images_background_small1", [*characters()["train"], *characters()["validation"]]
    )
    gone = next(name for name in members if "Latin/character09" in name)
    del members[gone]
    write_zip(tmp_path / "omniglot" / "images_background_small1.zip", members)
    write_zip(
        tmp_path / "omniglot" / "images_background_small2.zip",
        omniglot_files("images_background_small2", characters()["test"]),
    )
    with pytest.raises(DataError, match="'Latin/character09' must have 20 images, got 19"):
        OmniglotSmall().load(Device())


def test_turned_characters_are_other_classes_of_the_same_drawings(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(whole))
    monkeypatch.setenv("METABENCH_CACHE", str(whole / "cache"))
    source = Omniglot(size=8).load(Device())
    assert isinstance(source, TensorSource)
    index = source.splits["train"]
    assert index.names[1028] == f"{vinyals()['train'][0]}/rot090"
    assert np.array_equal(index.first[:1028], index.first[1028:2056])


def repack(source: Path, target: Path, change: Callable[[str, bytes], tuple[str, bytes]]) -> None:
    """Write the drawings of an archive anew: other folders, another order, other bytes of each file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in reversed([name for name in old.namelist() if name.endswith(".png")]):
            new.writestr(*change(name, old.read(name)))


def recoded(name: str, content: bytes) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("L").save(buffer, "png")
    return f"python/deeper/{name}", buffer.getvalue()


def test_real_archives_are_recognised_by_their_content_however_they_are_packed(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("METABENCH_DATA", str(real_data))
    expected = OmniglotSmall().load(Device())
    for file in OmniglotSmall().files():
        repack(file.place, tmp_path / file.path, recoded)
    monkeypatch.setenv("METABENCH_DATA", str(tmp_path))
    repacked = OmniglotSmall().load(Device())
    assert [file.fault() for file in OmniglotSmall().files()] == [None, None]
    assert isinstance(expected, TensorSource)
    assert isinstance(repacked, TensorSource)
    assert (expected.examples == repacked.examples).all()


def test_an_archive_with_one_other_pixel_is_not_recognised(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[str] = []

    def change(name: str, content: bytes) -> tuple[str, bytes]:
        if changed or "Korean/character07" not in name:
            return name, content
        changed.append(name)
        image = Image.open(io.BytesIO(content)).convert("1")
        image.putpixel((3, 4), 0 if image.getpixel((3, 4)) else 255)
        buffer = io.BytesIO()
        image.save(buffer, "png")
        return name, buffer.getvalue()

    monkeypatch.setenv("METABENCH_DATA", str(tmp_path))
    file = OmniglotSmall().files()[0]
    repack(real_data / file.path, file.place, change)
    assert "must have the sha256 f38eb80f" in str(file.fault())


def test_all_of_omniglot_is_known_by_its_content(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(real_data))
    file = Omniglot().files()[1]
    if not file.here():
        pytest.skip("no archive of the evaluation alphabets in METABENCH_DATA")
    assert file.fault() is None
