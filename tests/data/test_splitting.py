"""Splits of the user's own classes, by a list or by fractions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metabench import DataError
from metabench.data.splitting import by_fractions, by_list

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
def test_wrong_fractions_are_told(fractions: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="three shares of train, validation and test"):
        by_fractions(NAMES, fractions, 0)


def test_a_list_is_kept_in_its_order(tmp_path: Path) -> None:
    told = {"train": ["class-3", "class-1"], "val": ["class-2"], "test": ["class-9"]}
    (tmp_path / "splits.json").write_text(json.dumps(told))
    assert by_list(tmp_path / "splits.json", NAMES) == {
        "train": ["class-3", "class-1"], "validation": ["class-2"], "test": ["class-9"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"train": ["class-1", "class-2"], "test": ["class-1"]}', "lists the class 'class-1' twice"),
        ('{"train": ["class-1", "clas-2"]}', "1 classes that do not exist, such as 'clas-2'"),
        ('{"trian": ["class-1"]}', "names the split 'trian'; known: train, validation, test"),
        ("[1, 2]", "is no JSON file of split lists"),
        ("{", "is no JSON file of split lists"),
    ],
)
def test_mistakes_in_a_list_are_told(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(DataError, match=fault):
        by_list(tmp_path / "splits.json", NAMES)
