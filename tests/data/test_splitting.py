"""Splits of the user's own classes, by a list or by fractions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metabench import DataError
from metabench.data.splitting import by_fractions, by_list, split_named

NAMES = [f"class-{n}" for n in range(50)]


def test_fractions_split_every_class_once() -> None:
    splits = by_fractions(NAMES, (0.6, 0.2, 0.2), 0)
    assert {split: len(part) for split, part in splits.items()} == {"train": 30, "validation": 10, "test": 10}
    assert sorted(name for part in splits.values() for name in part) == sorted(NAMES)


def test_another_seed_splits_otherwise_and_order_does_not_matter() -> None:
    assert by_fractions(NAMES, (0.6, 0.2, 0.2), 0) != by_fractions(NAMES, (0.6, 0.2, 0.2), 1)
    assert by_fractions(NAMES, (0.6, 0.2, 0.2), 0) == by_fractions(NAMES[::-1], (0.6, 0.2, 0.2), 0)
    assert by_fractions(NAMES, (0.6, 0.2, 0.2), 0)["test"][:3] == ["class-21", "class-22", "class-23"]


def test_a_split_may_be_left_out() -> None:
    assert set(by_fractions(NAMES, (0.8, 0.0, 0.2), 0)) == {"train", "test"}


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.8, 0.3, 0.2), (-0.1, 0.5, 0.5), (0.0, 0.0, 0.0)])
def test_wrong_fractions_are_named(fractions: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="fractions must be three numbers of at least 0"):
        by_fractions(NAMES, fractions, 0)


def test_a_list_is_kept_in_its_order(tmp_path: Path) -> None:
    lists = {"train": ["class-3", "class-1"], "val": ["class-2"], "test": ["class-9"]}
    (tmp_path / "splits.json").write_text(json.dumps(lists))
    assert by_list(tmp_path / "splits.json", NAMES) == {
        "train": ["class-3", "class-1"], "validation": ["class-2"], "test": ["class-9"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"train": ["class-1", "class-2"], "test": ["class-1"]}', "lists the class 'class-1' twice"),
        ('{"train": ["class-1", "clas-2"]}', "1 classes that do not exist, such as 'clas-2'"),
        ('{"trian": ["class-1"]}', "unknown split 'trian'; known: train, validation, test"),
        ("[1, 2]", "is no JSON file of split lists"),
        ("{", "is no JSON file of split lists"),
    ],
)
def test_mistakes_in_a_list_are_named(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(DataError, match=fault):
        by_list(tmp_path / "splits.json", NAMES)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Train", "train"), ("TRAIN", "train"), ("training set", "train"), ("meta_train", "train"),
        ("VAL", "validation"), ("Valid", "validation"), ("val_images", "validation"), ("dev", "validation"),
        ("Test", "test"), ("meta-test", "test"), ("testing_data", "test"), ("trains", None), ("cat", None),
        ("data", None), ("", None), ("日本", None),
    ],
)  # fmt: skip
def test_names_of_splits_are_recognised_in_any_usual_spelling(name: str, split: str | None) -> None:
    assert split_named(name) == split


@pytest.mark.parametrize("name", ["eval", "Evaluation", "EVAL_SET", "hold-out"])
def test_a_name_that_may_be_two_splits_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="may be validation or test; rename it"):
        split_named(name)


def test_a_list_is_read_in_nfc_with_a_byte_order_mark_and_names_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    lists = {"Train": ["A\u0308pfel"], "test": ["class-1"]}
    path.write_text(json.dumps(lists, ensure_ascii=False), encoding="utf-8-sig")
    assert by_list(path, [*NAMES, "Äpfel"]) == {"train": ["Äpfel"], "test": ["class-1"]}
    path.write_text('{"train": ["class-1"], "TRAIN": ["class-2"]}')
    with pytest.raises(DataError, match="lists the split train twice"):
        by_list(path, NAMES)
    path.write_text('{"eval": ["class-1"]}')
    with pytest.raises(DataError, match=r"splits\.json: the split 'eval' may be validation or test"):
        by_list(path, NAMES)
