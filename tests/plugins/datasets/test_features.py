"""The user's own features: .npz, .csv and .parquet, and what is wrong with them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from metabench import DataError, Protocol
from metabench.data import TensorSource
from metabench.device import Device
from metabench_plugins.datasets.features import Features

LABELS = np.repeat([f"c{n}" for n in range(10)], 6)
ORDER = np.random.default_rng(0).permutation(60)
FEATURES = np.stack([np.repeat(np.arange(10.0), 6), np.arange(60.0), np.ones(60)], 1)
SPLIT = np.repeat(["train"] * 6 + ["val"] * 2 + ["test"] * 2, 6)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_DATA", str(tmp_path))


def frame() -> pd.DataFrame:
    table = pd.DataFrame(FEATURES[ORDER], columns=["f0", "f1", "f2"])
    return table.assign(label=LABELS[ORDER], split=SPLIT[ORDER])


def write(folder: Path, kind: str) -> str:
    if kind == "npz":
        np.savez(folder / "t.npz", x=FEATURES[ORDER], y=LABELS[ORDER], split=SPLIT[ORDER])
    elif kind == "csv":
        frame().to_csv(folder / "t.csv", index=False)
    else:
        pytest.importorskip("pyarrow", reason="pandas reads .parquet with pyarrow, which is not installed")
        frame().to_parquet(folder / "t.parquet")
    return f"t.{kind}"


@pytest.mark.parametrize("kind", ["npz", "csv", "parquet"])
def test_a_table_with_splits_of_its_own_keeps_them(tmp_path: Path, kind: str) -> None:
    dataset = Features(path=write(tmp_path, kind))
    facts, source = dataset.describe(), dataset.load(Device())
    assert facts.classes == {"train": 6, "validation": 2, "test": 2}
    assert facts.images == {"train": 6, "validation": 6, "test": 6}
    assert facts.input_shape == (3,)
    drawn = source.episodes("train", Protocol(4, 2, 3), range(20), 0)
    expected = torch.tensor([float(n) for n in range(6)])[drawn.classes.gather(1, drawn.query.y)]
    assert torch.equal(drawn.query.x[..., 0], expected)
    assert drawn.query.x.dtype == torch.float32


def test_another_column_may_be_the_label(tmp_path: Path) -> None:
    frame().rename(columns={"label": "bird"}).to_csv(tmp_path / "t.csv", index=False)
    assert Features(path="t.csv", label="bird").describe().classes["train"] == 6
    with pytest.raises(DataError, match="has no column 'label'; it has f0, f1, f2, bird, split"):
        Features(path="t.csv").describe()


def test_splits_are_made_by_fractions_or_a_list(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=FEATURES, y=np.repeat(np.arange(10), 6))
    assert Features(path="t.npz", fractions=(0.5, 0.2, 0.3)).describe().classes == {
        "train": 5, "validation": 2, "test": 3,
    }  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps({"train": ["0", "1", "2"], "test": ["9"]}))
    source = Features(path="t.npz", splits="s.json").load(Device())
    assert isinstance(source, TensorSource)
    assert source.splits["test"].names == ("9",)
    assert (source.examples[source.splits["test"].first[0]] == torch.tensor([9.0, 54.0, 1.0])).all()


def test_a_class_in_two_splits_is_refused(tmp_path: Path) -> None:
    split = np.where(np.arange(60) == 3, "test", SPLIT)
    np.savez(tmp_path / "t.npz", x=FEATURES, y=LABELS, split=split)
    with pytest.raises(DataError, match="train and test share 1 classes, such as 'c0'"):
        Features(path="t.npz").load(Device())


def test_standardised_features_have_meta_train_s_moments(tmp_path: Path) -> None:
    source = Features(path=write(tmp_path, "npz"), standardise=True).load(Device())
    assert isinstance(source, TensorSource)
    train = source.examples[:36].double()  # stored as float32: each entry is off by 3 · 2⁻²⁵ = 1e-7 at most
    assert torch.allclose(train.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(train[:, :2].std(0, correction=0), torch.ones(2, dtype=torch.float64), atol=1e-6)


def test_arrays_of_any_shape_are_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=np.zeros((60, 2, 5, 5)), y=LABELS)
    dataset = Features(path="t.npz")
    assert dataset.describe().input_shape == (2, 5, 5)
    assert dataset.load(Device()).episodes("train", Protocol(2, 1, 1), [0], 0).query.x.shape == (
        1,
        2,
        2,
        5,
        5,
    )


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"x": FEATURES}, "lacks the array 'y'; it has x"),
        ({"x": FEATURES[:-1], "y": LABELS}, "one label each, got .59, 3. and 60 labels"),
        ({"x": np.where(FEATURES == 7, np.nan, FEATURES), "y": LABELS}, "a feature is missing or infinite"),
        ({"x": FEATURES, "y": LABELS, "split": np.full(60, "trian")}, "unknown split 'trian'"),
        ({"x": FEATURES, "y": np.array([{}] * 60, dtype=object)}, "cannot be read"),
    ],
)
def test_mistakes_in_arrays_are_told(tmp_path: Path, arrays: dict[str, np.ndarray], fault: str) -> None:
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(DataError, match=fault):
        Features(path="t.npz").load(Device())


def test_words_among_the_features_are_told(tmp_path: Path) -> None:
    frame().assign(colour="red").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="the column 'colour' holds no numbers"):
        Features(path="t.csv").load(Device())


def test_changed_features_give_another_manifest_and_are_refused_where_the_digest_is_stated(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, "npz")
    protocol, content = Protocol(2, 1, 1), Features(path=path).describe().content
    before = Features(path=path, content=content).load(Device()).manifest("test", protocol, range(3), 0)
    np.savez(tmp_path / path, x=FEATURES[ORDER] + 1, y=LABELS[ORDER], split=SPLIT[ORDER])
    after = Features(path=path).load(Device()).manifest("test", protocol, range(3), 0)
    assert (before["support"] == after["support"]).all()
    assert (before["content"] != after["content"]).any()
    assert Features(path=path).describe().content != content
    with pytest.raises(DataError, match=f"must have the digest {content}, got"):
        Features(path=path, content=content).load(Device())


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    reason = Features(path="absent.npz").missing()
    assert reason == f"table: there is no file {tmp_path / 'absent.npz'}; set `path` to yours"
    assert Features(path="absent.npz").describe().classes == {}


def noise(rows: int = 60) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).normal(size=(rows, 3)), columns=["a", "b", "c"])


def test_labels_are_text_as_they_stand_in_the_file(tmp_path: Path) -> None:
    names = ["NA", "None", "null", "nan", "007", "7", "1e3", "1.0", "TRUE", " spaced "]
    noise().assign(label=np.repeat(names, 6)).to_csv(tmp_path / "t.csv", index=False)
    source = Features(path="t.csv").load(Device())
    assert isinstance(source, TensorSource)
    read = {name for index in source.splits.values() for name in index.names}
    assert read == {*names[:-1], "spaced"}


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_an_empty_label_is_refused_with_its_row(tmp_path: Path, empty: str | None) -> None:
    labels = [*LABELS[:4], empty, *LABELS[5:]]
    noise().assign(label=labels).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"t\.csv: row 5 has an empty label; name it or remove the row"):
        Features(path="t.csv").describe()


def test_a_missing_number_among_the_labels_of_an_array_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=FEATURES, y=np.where(np.arange(60) == 2, np.nan, 1.0))
    with pytest.raises(DataError, match="row 3 has an empty label"):
        Features(path="t.npz").describe()


def test_splits_are_text_in_any_spelling(tmp_path: Path) -> None:
    parts = np.repeat(["Train"] * 6 + ["VAL"] * 2 + ["Test set"] * 2, 6)
    noise().assign(label=LABELS, split=parts).to_csv(tmp_path / "t.csv", index=False)
    assert Features(path="t.csv").describe().classes == {"train": 6, "validation": 2, "test": 2}
    noise().assign(label=LABELS, split=np.where(parts == "VAL", "eval", parts)).to_csv(tmp_path / "u.csv")
    with pytest.raises(DataError, match=r"u\.csv: the split 'eval' may be validation or test"):
        Features(path="u.csv").describe()


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["", "Unnamed: 0", "id"])
def test_a_column_that_numbers_the_rows_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, first: int
) -> None:
    table = noise().assign(label=LABELS)
    table.insert(0, name, np.arange(60) + first)
    table.to_csv(tmp_path / "t.csv", index=False)
    assert Features(path="t.csv").describe().input_shape == (3,)
    assert "numbers the rows and is left out" in caplog.text


def test_another_column_without_a_name_is_refused(tmp_path: Path) -> None:
    noise().assign(label=LABELS).iloc[ORDER].to_csv(tmp_path / "t.csv")
    with pytest.raises(DataError, match="a column has no name"):
        Features(path="t.csv").describe()


def test_row_names_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = noise().assign(label=LABELS).to_csv().splitlines()
    rows = [f"row-{line}" for line in lines[1:]]
    (tmp_path / "t.csv").write_text("\n".join([lines[0][1:], *rows]))  # as R writes it
    assert Features(path="t.csv").describe().input_shape == (3,)
    assert "its row names are an index and are left out" in caplog.text


def test_a_column_that_appears_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("label,label,x\na,1,2\nb,1,2\n")
    with pytest.raises(DataError, match="two columns 'label'"):
        Features(path="t.csv").describe()


def test_a_byte_order_mark_and_decomposed_names_change_nothing(tmp_path: Path) -> None:
    names = np.repeat(["Äpfel", *(f"c{n}" for n in range(9))], 6)
    noise().assign(label=names)[["label", "a", "b", "c"]].to_csv(tmp_path / "t.csv", index=False)
    text = (tmp_path / "t.csv").read_text().replace("Ä", "A\u0308")
    (tmp_path / "u.csv").write_text(text, encoding="utf-8-sig")
    sources = [Features(path=f"{name}.csv").load(Device()) for name in "tu"]
    assert all(isinstance(source, TensorSource) for source in sources)
    named = [{split: index.names for split, index in source.splits.items()} for source in sources]
    assert named[0] == named[1]


def huge(path: Path) -> None:
    header = io.BytesIO()
    form = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(header, form)
    with zipfile.ZipFile(path, "w") as file:
        for name in ("x.npy", "y.npy"):
            file.writestr(name, header.getvalue())


def flipped(path: Path) -> None:
    np.savez(path, x=np.zeros((60, 3)), y=LABELS)
    content = bytearray(path.read_bytes())
    content[900] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "write_file",
    [
        huge,
        flipped,
        lambda path: path.write_bytes(b"PK\3\4garbage" * 10),
        lambda path: path.write_bytes(b""),
    ],
)  # fmt: skip
def test_a_damaged_file_of_arrays_is_named(tmp_path: Path, write_file: Callable[[Path], object]) -> None:
    write_file(tmp_path / "t.npz")
    with pytest.raises(DataError, match=r"t\.npz (cannot be read|declares more than fits in memory)"):
        Features(path="t.npz").describe()


@pytest.mark.parametrize("content", [b"", bytes(range(256)) * 9, b"\n\n"])
def test_a_damaged_table_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"t\.csv (cannot be read|has no column)"):
        Features(path="t.csv").describe()
