"""The user's own features: .npz, .csv and .parquet, and what is wrong with them."""

from __future__ import annotations

import json
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
    made = pd.DataFrame(FEATURES[ORDER], columns=["f0", "f1", "f2"])
    return made.assign(label=LABELS[ORDER], split=SPLIT[ORDER])


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
    told = torch.tensor([float(n) for n in range(6)])[drawn.classes.gather(1, drawn.query.y)]
    assert torch.equal(drawn.query.x[..., 0], told)
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
        ({"x": FEATURES[:-1], "y": LABELS}, "59 rows of features and 60 labels"),
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
    with pytest.raises(DataError, match=f"has the digest [0-9a-f]+, not {content}"):
        Features(path=path, content=content).load(Device())


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    told = Features(path="absent.npz").missing()
    assert told == f"table: there is no file {tmp_path / 'absent.npz'}; set `path` to yours"
    assert Features(path="absent.npz").describe().classes == {}
