"""The store: results come back as they went in, and no file is lost."""

import errno
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.results import made_cell, made_result
from metabench.errors import StoreError
from metabench.records import Spec, Status
from metabench.records.files import read_result, write_json
from metabench.records.result import Result, Training
from metabench.results.store import Store

CELL = made_cell(expect=["out-of-memory"])


def test_result_comes_back_as_it_went_in(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert read_result(store.put(made_result(CELL))) == made_result(CELL)
    assert store.get(CELL) == made_result(CELL)


@pytest.mark.parametrize(
    ("status", "stands"),
    [("ok", True), ("diverged", True), ("out-of-memory", True), ("failed", False), ("skipped", False)],
)
def test_status_decides_whether_a_later_run_tries_again(tmp_path: Path, status: str, stands: bool) -> None:
    store = Store(tmp_path)
    store.put(Result(CELL, Status(status)))
    assert (store.finished(CELL) is not None) is stands


def test_earlier_result_moves_aside_before_a_newer_one_takes_its_place(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(made_result(CELL))
    store.put(Result(CELL, Status.FAILED, "later"))
    (old,) = (tmp_path / "aside").iterdir()
    assert read_result(old) == made_result(CELL)
    assert read_result(store.path(CELL)).reason == "later"


@pytest.mark.parametrize("status", ["skipped", "invalid"])
def test_result_of_a_cell_that_was_never_measured_is_replaced_in_place(tmp_path: Path, status: str) -> None:
    store = Store(tmp_path)
    store.put(Result(CELL, Status(status), "no GPU"))
    store.put(made_result(CELL))
    assert store.get(CELL) == made_result(CELL)
    assert not (tmp_path / "aside").exists()


def test_foreign_file_moves_aside_like_a_result(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.path(CELL).write_text("[]")
    store.put(made_result(CELL))
    (old,) = (tmp_path / "aside").iterdir()
    assert old.read_text() == "[]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"cell": {"su', "truncated"),
        ("[]", "no JSON object"),
        ('{"schema": 99}', "schema 99"),
        ("", "truncated"),
    ],
)
def test_foreign_or_truncated_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=f"x.json.*{message}"):
        read_result(path)


def test_full_disk_says_so_and_keeps_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="the disk is full; free some space"):
        write_json(path, {"new": 1})
    assert path.read_text() == '{"old":1}'
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_full_disk_leaves_the_earlier_result_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    path = store.put(made_result(CELL))

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="the disk is full"):
        store.put(made_result(CELL))
    assert list(tmp_path.iterdir()) == [path]


def test_id_is_a_file_name_and_differs_with_any_setting() -> None:
    other = replace(CELL, algorithm=Spec("maml", {"steps": 2}))
    assert CELL.id.startswith("maml-conv4-glyphs-5w1s-cpu-s0-")
    assert other.id != CELL.id
    assert replace(CELL, algorithm=Spec("maml++", {})).id.startswith("mamlpp-")


def test_numbers_that_are_none_are_written_as_null_and_read_back(tmp_path: Path) -> None:
    result = replace(made_result(CELL), training=Training(steps=1, losses=((1, math.nan),)))
    path = Store(tmp_path).put(result)
    assert '"losses":[[1,null]]' in path.read_text()
    training = read_result(path).training
    assert training is not None
    assert math.isnan(training.losses[0][1])
