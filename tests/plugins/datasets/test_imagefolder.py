"""The user's own images: both layouts, any format, and what is wrong with them."""

from __future__ import annotations

import io
import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.archives import image_file
from metabench import DataError, Invalid, Protocol
from metabench.data import TensorSource
from metabench.data.images import Shape, decode
from metabench.data.manifests import make_manifest, read_manifest
from metabench.device import Device
from metabench.errors import SuiteError
from metabench.plugins import load as load_plugins
from metabench.records import Cell, Evaluation, Spec
from metabench.suite import read
from metabench.worker.cell_run import manifest_digest
from metabench_plugins.datasets.imagefolder import ImageFolder

SUITE = """
name = "s"
version = 1
[[cells]]
algorithm = "nearest-neighbour"
dataset = {name = "imagefolder", path = "mine", size = 8}
test = {ways = 2, shots = 1, queries = 1}
"""

FORMATS = ["png", "jpeg", "bmp", "gif", "tiff", "webp", "ppm"]


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(tmp_path))
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))


def write_class(folder: Path, images: int = 4, seed: int = 0) -> None:
    folder.mkdir(parents=True)
    for place in range(images):
        kind = FORMATS[(seed + place) % len(FORMATS)]
        (folder / f"{place}.{kind}").write_bytes(image_file(100 * seed + place, (15, 10), kind=kind))


def write_splits(folder: Path) -> None:
    for number, name in enumerate(["train/a", "train/b", "val/c", "test/d", "test/e"]):
        write_class(folder / name, 4 + number, number)


def write_classes(folder: Path, count: int = 10) -> None:
    for number in range(count):
        write_class(folder / f"class-{number}", 4, number)


def load(**settings: Any) -> TensorSource:
    source = ImageFolder(**settings).load(Device())
    assert isinstance(source, TensorSource)
    return source


def test_folders_of_splits_are_described_and_loaded(tmp_path: Path) -> None:
    write_splits(tmp_path / "mine")
    dataset = ImageFolder(path="mine", size=8)
    facts, source = dataset.describe(), load(path="mine", size=8)
    assert facts.classes == {"train": 2, "validation": 1, "test": 2}
    assert facts.images == {"train": 4, "validation": 6, "test": 7}
    assert facts.classes == {split: len(index) for split, index in source.splits.items()}
    assert facts.images == {split: index.fewest for split, index in source.splits.items()}
    assert source.episodes("test", Protocol(2, 3, 4), [0], 0).support.x.shape == (1, 6, 3, 8, 8)


def test_every_image_is_in_its_class(tmp_path: Path) -> None:
    for number, name in enumerate(["train/a", "train/b", "test/c"]):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for place in range(3):
            Image.new("RGB", (9, 9), (80 * number, 0, 0)).save(tmp_path / "mine" / name / f"{place}.png")
    source = load(path="mine", size=9)
    drawn = source.episodes("train", Protocol(2, 1, 2), range(8), 0)
    red = (drawn.query.x[:, :, 0, 4, 4] * 255).round().numpy()
    assert (red == 80 * np.take_along_axis(drawn.classes.numpy(), drawn.query.y.numpy(), 1)).all()
    assert (source.episodes("test", Protocol(1, 1, 1), [0], 0).query.x[0, 0, 0] * 255).round().unique() == 160


def test_folders_of_classes_are_split_by_fractions_and_seed(tmp_path: Path) -> None:
    write_classes(tmp_path / "mine")
    source = load(path="mine", size=8, fractions=(0.5, 0.2, 0.3))
    assert {split: len(index) for split, index in source.splits.items()} == {
        "train": 5,
        "validation": 2,
        "test": 3,
    }
    reseeded = load(path="mine", size=8, fractions=(0.5, 0.2, 0.3), split_seed=1)
    assert source.splits["train"].names != reseeded.splits["train"].names


def test_folders_of_classes_are_split_by_a_list(tmp_path: Path) -> None:
    write_classes(tmp_path / "mine", 5)
    lists = {"train": ["class-4", "class-0"], "test": ["class-2"]}
    (tmp_path / "mine" / "splits.json").write_text(json.dumps(lists))
    source = load(path="mine", size=8, splits="splits.json")
    assert source.splits["test"].names == ("class-2",)
    assert set(source.splits["train"].names) == {"class-0", "class-4"}


def test_a_class_in_two_splits_is_refused(tmp_path: Path) -> None:
    write_splits(tmp_path / "mine")
    write_class(tmp_path / "mine" / "test" / "a")
    with pytest.raises(DataError, match="train and test share 1 classes, such as 'a'"):
        load(path="mine")


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    write_splits(tmp_path / "mine")
    (tmp_path / "mine" / "train" / "hollow").mkdir()
    (tmp_path / "mine" / "train" / "hollow" / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="train/hollow holds no image; remove it or add images"):
        load(path="mine")


def test_a_class_with_too_few_images_is_named(tmp_path: Path) -> None:
    write_splits(tmp_path / "mine")
    with pytest.raises(Invalid, match=r"at most 4, the images of the class 'a', got 6"):
        load(path="mine", size=8).episodes("train", Protocol(2, 1, 5), [0], 0)


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    write_splits(tmp_path / "mine")
    (tmp_path / "mine" / "test" / "d" / "broken.png").write_bytes(image_file(1, (40, 40))[:-200])
    with pytest.raises(DataError, match=r"test/d/broken\.png is no whole image"):
        load(path="mine")


def test_a_changed_image_is_read_anew(tmp_path: Path) -> None:
    write_splits(tmp_path / "mine")
    before = load(path="mine", size=8).examples.clone()
    (tmp_path / "mine" / "train" / "a" / "0.png").write_bytes(image_file(999, (30, 30)))
    assert (load(path="mine", size=8).examples != before).any()


def test_a_changed_image_gives_another_cell_and_other_tasks(tmp_path: Path) -> None:
    write_splits(tmp_path / "mine")
    suite = tmp_path / "s.toml"
    suite.write_text(SUITE)
    changed = tmp_path / "mine" / "test" / "d" / "0.bmp"
    changed.write_bytes(image_file(1, (15, 10), kind="bmp"))
    wanted = Evaluation(tasks=4)

    def seen() -> tuple[Cell, str]:
        (cell,) = read(load_plugins(), str(suite)).cells
        source = ImageFolder(**cell.dataset.settings).load(Device())
        return cell, manifest_digest(source, "test", cell.test, wanted)

    cell, tasks = seen()
    assert (cell, tasks) == seen()
    changed.write_bytes(image_file(2, (15, 10), kind="bmp"))  # of the same size
    other, other_tasks = seen()
    assert other.digest != cell.digest
    assert other_tasks != tasks
    with pytest.raises(DataError, match=f"must have the digest {cell.dataset.settings['content']}, got"):
        ImageFolder(**cell.dataset.settings).load(Device())
    suite.write_text(SUITE.replace('"mine",', f'"mine", content = "{cell.dataset.settings["content"]}",'))
    with pytest.raises(SuiteError, match="content must be the digest of the data here"):
        read(load_plugins(), str(suite))


def test_exported_tasks_are_refused_with_other_images(tmp_path: Path) -> None:
    write_splits(tmp_path / "mine")
    source = load(path="mine", size=8)
    manifest = make_manifest(Spec("imagefolder"), source, "test", Protocol(2, 1, 1), [0], 0)
    manifest.write(tmp_path / "tasks.npz")
    stored = read_manifest(tmp_path / "tasks.npz")
    assert stored.episodes(load(path="mine", size=8)).support.x.shape == (1, 2, 3, 8, 8)
    (tmp_path / "mine" / "train" / "a" / "0.png").write_bytes(image_file(999, (15, 10)))
    with pytest.raises(DataError, match="here is not that of the manifest"):
        stored.episodes(load(path="mine", size=8))


def test_a_folder_is_described_by_what_is_in_it_and_not_by_where_it_is(tmp_path: Path) -> None:
    for name in ("mine", "copy"):
        write_splits(tmp_path / name)
    content, copy = (ImageFolder(path=name).describe().content for name in ("mine", "copy"))
    assert content == copy
    (tmp_path / "copy" / "test" / "d").rename(tmp_path / "copy" / "test" / "renamed")
    assert ImageFolder(path="copy").describe().content != content


def test_an_absent_folder_is_named_and_described_as_empty(tmp_path: Path) -> None:
    dataset = ImageFolder(path="nowhere")
    assert dataset.missing() == (
        f"imagefolder: there is no folder {tmp_path / 'nowhere'}; set `path` to a folder of your images"
    )
    assert dataset.describe().classes == {}


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    write_splits(tmp_path / "mine")
    write_class(tmp_path / "mine" / "train" / ".cache")
    (tmp_path / "mine" / "train" / "a" / "._0.png").write_bytes(b"resource fork")
    assert ImageFolder(path="mine").describe().classes["train"] == 2
    assert ImageFolder(path="mine").describe().images["train"] == 4


def test_mean_and_std_of_the_wrong_number_are_refused(tmp_path: Path) -> None:
    write_splits(tmp_path / "mine")
    with pytest.raises(DataError, match="mean must have 1 or 3 values, got 2"):
        load(path="mine", size=8, mean=(0.5, 0.5))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("colour", [True, False])
def test_any_format_is_decoded(kind: str, colour: bool) -> None:
    pixels = decode(image_file(3, (20, 10), kind=kind), Shape(8, colour), "x")
    assert pixels.shape == (3 if colour else 1, 8, 8)
    assert pixels.std() > 5


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_any_mode_is_decoded(mode: str) -> None:
    value = 0 if mode == "1" else 128  # one bit has no grey
    picture = (
        Image.new("L", (6, 6), value).convert(mode) if mode != "I;16" else Image.new(mode, (6, 6), 128 << 8)
    )
    buffer = io.BytesIO()
    picture.save(buffer, "tiff")
    pixels = decode(buffer.getvalue(), Shape(6), "x")
    assert pixels.shape == (3, 6, 6)
    assert (np.abs(pixels.astype(int) - value) <= 1).all()


def test_floats_of_unknown_range_are_refused() -> None:
    buffer = io.BytesIO()
    Image.new("F", (6, 6), 0.5).save(buffer, "tiff")
    with pytest.raises(DataError, match="x holds floats of unknown range"):
        decode(buffer.getvalue(), Shape(6), "x")


def test_an_image_is_stretched_cropped_or_padded() -> None:
    values = np.zeros((10, 30, 3), np.uint8)
    values[:, :10] = (255, 0, 0)
    values[:, 20:] = (0, 0, 255)
    values[:, 10:20] = (0, 255, 0)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png")
    crop, pad, stretch = (
        decode(buffer.getvalue(), Shape(30, fit=fit), "x") for fit in ("crop", "pad", "stretch")
    )  # type: ignore[arg-type]
    assert (crop[1, :, 5:25] > 240).all()
    assert (crop[[0, 2], :, 5:25] < 15).all()
    assert (pad[:, :9] == 0).all()
    assert (pad[:, 15, 15] == (0, 255, 0)).all()
    assert (stretch[:, 0, 2] == (255, 0, 0)).all()
    assert (stretch[:, 29, 27] == (0, 0, 255)).all()


def test_the_middle_of_a_larger_stretched_image_is_kept() -> None:
    values = np.tile(np.linspace(0, 255, 192, dtype=np.uint8), (96, 1))
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png")
    middle = decode(buffer.getvalue(), Shape(84, colour=False, margin=1.15), "x")[0]
    assert middle.shape == (84, 84)
    for place in (0, 83):  # 6 of 96 columns are cut off at each side
        assert abs(int(middle[40, place]) - 255 * (6 + place + 0.5) / 96) < 2


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "png")
    assert len(buffer.getvalue()) < 1 << 17
    with pytest.raises(DataError, match=r"bomb\.png has 9000×9000 pixels, more than the bound"):
        decode(buffer.getvalue(), Shape(8), "bomb.png")


@pytest.mark.parametrize(
    "hidden", [".ipynb_checkpoints", ".git/objects", "sub/.thumbnails", "@eaDir", "__MACOSX"]
)
def test_hidden_folders_are_passed_over_at_any_depth(tmp_path: Path, hidden: str) -> None:
    write_splits(tmp_path / "mine")
    before = ImageFolder(path="mine").describe()
    place = tmp_path / "mine" / "test" / "d" / hidden
    place.mkdir(parents=True)
    (place / "0-checkpoint.png").write_bytes(image_file(1))
    assert ImageFolder(path="mine").describe() == before


@pytest.mark.parametrize("names", [("Train", "VAL", "Test"), ("TRAINING", "valid", "meta_test")])
def test_splits_in_any_spelling_are_splits_and_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for number, name in enumerate(names):
        for letter in "abc":
            write_class(tmp_path / "mine" / name / f"{letter}{number}", 2)
    assert ImageFolder(path="mine").describe().classes == {"train": 3, "validation": 3, "test": 3}


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (("train", "eval"), "the split 'eval' may be validation or test"),
        (("train", "val"), "must have a folder of train and one of test, got 'train', 'val'"),
        (("Test", "other"), "must have a folder of train and one of test, got 'Test'"),
        (("train", "Train", "test"), "two folders of the split train"),
    ],
)
def test_splits_that_are_unclear_missing_or_double_are_refused(
    tmp_path: Path, names: tuple[str, ...], fault: str
) -> None:
    for name in names:
        write_class(tmp_path / "mine" / name / f"class-of-{name}", 2)
    with pytest.raises(DataError, match=fault):
        ImageFolder(path="mine").describe()


def test_a_class_of_trains_is_a_class(tmp_path: Path) -> None:
    write_classes(tmp_path / "mine", 9)
    write_class(tmp_path / "mine" / "train", 4)
    assert sum(ImageFolder(path="mine").describe().classes.values()) == 10


def test_a_folder_beside_the_splits_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_splits(tmp_path / "mine")
    write_class(tmp_path / "mine" / "unlabelled" / "all", 2)
    assert sum(ImageFolder(path="mine").describe().classes.values()) == 5
    assert "left out, as they are no splits: unlabelled" in caplog.text


def test_composed_and_decomposed_names_make_the_same_tasks(tmp_path: Path) -> None:
    facts = []
    for form in ("NFC", "NFD"):
        for number, name in enumerate(["Äpfel", "Ölbaum", "Zoo", "ガ", *"abcdef"]):
            write_class(tmp_path / form / unicodedata.normalize(form, name), 3, number)
        names = {"train": ["Äpfel", "a"], "test": ["Zoo", unicodedata.normalize("NFD", "ガ")]}
        (tmp_path / form / "lists.json").write_text(json.dumps(names))
        by_list = ImageFolder(path=form, splits="lists.json").describe()
        facts.append((ImageFolder(path=form).describe(), by_list))
    assert facts[0] == facts[1]


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        write_class(tmp_path / "mine" / unicodedata.normalize(form, "Äpfel"), 3)
    with pytest.raises(DataError, match="two folders of the class 'Äpfel'"):
        ImageFolder(path="mine").describe()


@pytest.mark.parametrize("place", [b"caf\xe9", b"a/caf\xe9.png", b"a/caf\xe9/1.png"])
def test_a_name_that_is_not_utf8_is_named(tmp_path: Path, place: bytes) -> None:
    write_classes(tmp_path / "mine", 3)
    write_class(tmp_path / "mine" / "a", 3)
    path = os.path.join(os.fsencode(tmp_path / "mine"), place if place != b"caf\xe9" else place + b"/1.png")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(image_file(1))
    with pytest.raises(DataError, match=r"the name b'caf\\xe9(\.png)?' is not UTF-8; rename it"):
        ImageFolder(path="mine").describe()


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "RGB", "L"])
@pytest.mark.parametrize(("ground", "value"), [("white", 255), ("black", 0)])
def test_transparent_pixels_show_the_ground(kind: str, ground: Any, value: int) -> None:
    """Ink of grey 100 beside pixels that are transparent, in each way that a PNG can say so."""
    ink, clear = (100, 100, 100, 255), (40, 40, 40, 0)
    image = Image.new("RGBA", (2, 1))
    image.putdata([ink, clear])
    buffer = io.BytesIO()
    if kind in ("RGBA", "LA"):
        image.convert(kind).save(buffer, "png")
    else:
        rgb = Image.new("RGB", (2, 1))
        rgb.putdata([ink[:3], clear[:3]])
        plain = rgb.quantize(2) if kind == "P" else rgb.convert(kind)
        plain.save(buffer, "png", transparency=plain.getpixel((1, 0)))
    content = decode(buffer.getvalue(), Shape(2, ground=ground), "a.png")
    assert content[:, 0].max(0).tolist() == [100, value]


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>", b""])
def test_only_the_listed_formats_are_decoded(content: bytes) -> None:
    with pytest.raises(DataError, match=r"a\.png must be an image in one of the formats BMP, GIF, JPEG, PNG"):
        decode(content, Shape(8), "a.png")
