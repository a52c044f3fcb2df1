"""The index: fast because it remembers, right because it looks, and never stopped by one bad file."""

from __future__ import annotations

import gc
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.json_values import spoiled
from helpers.reports import shown
from helpers.results import made_board, made_cell, made_result, store
from metabench.errors import RequestError
from metabench.report.content import Content
from metabench.results import cache as index
from metabench.results.table import Results


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_second_reading_parses_nothing_and_finds_the_same(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path / "results", made_board())
    first = index.read([tmp_path / "results"], cache)

    def fail(path: Path) -> None:
        raise AssertionError(f"{path} was parsed again")

    monkeypatch.setattr(index, "read_result", fail)
    second = index.read([tmp_path / "results"], cache)

    assert second.rows == first.rows
    assert [a.tolist() for a in second.scores] == [b.tolist() for b in first.scores]
    assert len(second.rows) == 12


def test_a_changed_file_is_read_again(tmp_path: Path, cache: Path) -> None:
    cell = made_cell()
    store(tmp_path, [made_result(cell, 0.5)])
    before = index.read([tmp_path / "made-v1"], cache).rows[0]["mean"]
    (path,) = store(tmp_path, [made_result(cell, 0.6)])
    os.utime(path, ns=(1, 1))

    assert index.read([tmp_path / "made-v1"], cache).rows[0]["mean"] > before + 0.05


def test_bad_files_are_named_and_the_rest_is_read(tmp_path: Path, cache: Path) -> None:
    good, cut, *_ = store(tmp_path, made_board())
    cut.write_bytes(cut.read_bytes()[:500])
    (good.parent / "foreign.json").write_text('{"name": "something else"}')
    (good.parent / "list.json").write_text("[1, 2]")
    (good.parent / "newer.json").write_text('{"schema": 99}')

    contents = index.read([tmp_path / "made-v1"], cache)

    assert len(contents.rows) == 11
    problems = {Path(problem.file).name: problem.what for problem in contents.problems}
    assert set(problems) == {cut.name, "foreign.json", "list.json", "newer.json"}
    assert "truncated" in problems[cut.name]
    assert "upgrade metabench" in problems["newer.json"]


def test_what_lies_aside_is_no_result(tmp_path: Path, cache: Path) -> None:
    (path,) = store(tmp_path, [made_result()])
    for name in ("again", "aside", "jobs", "report"):
        (path.parent / name).mkdir()
        (path.parent / name / path.name).write_bytes(path.read_bytes())

    assert len(index.read([tmp_path / "made-v1"], cache).rows) == 1


def test_one_file_named_twice_counts_once(tmp_path: Path, cache: Path) -> None:
    (path,) = store(tmp_path, [made_result()])

    assert len(index.read([tmp_path / "made-v1", path], cache).rows) == 1


def test_a_damaged_cache_is_made_anew(tmp_path: Path, cache: Path) -> None:
    store(tmp_path, [made_result()])
    index.read([tmp_path / "made-v1"], cache)
    (file,) = cache.glob("*.sqlite")
    file.write_bytes(b"no database at all" * 100)

    assert len(index.read([tmp_path / "made-v1"], cache).rows) == 1
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*) FROM result").fetchone() == (1,)
    connection.close()


def test_without_a_place_for_a_cache_everything_is_still_read(tmp_path: Path) -> None:
    store(tmp_path, [made_result()])
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")

    assert len(index.read([tmp_path / "made-v1"], blocked).rows) == 1


def test_a_broken_link_and_a_file_that_goes_are_named(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = store(tmp_path, [made_result()])
    (path.parent / "broken.json").symlink_to(tmp_path / "nowhere.json")
    gone = path.parent / "gone.json"
    gone.write_bytes(path.read_bytes())
    files = index._files

    def listed(folder: Path, roots: Any) -> Iterator[Any]:
        yield from list(files(folder, roots))
        gone.unlink()

    monkeypatch.setattr(index, "_files", listed)
    read = index.read([path.parent], cache)

    assert len(read.rows) == 1
    assert {Path(problem.file).name for problem in read.problems} == {"broken.json", "gone.json"}


def test_a_reading_leaves_the_garbage_collection_of_its_process_alone(tmp_path: Path, cache: Path) -> None:
    store(tmp_path, made_board(test_tasks=20))
    gc.unfreeze()

    index.read([tmp_path / "made-v1"], cache)

    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_an_absent_path_says_how_results_are_made(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="metabench run quick"):
        index.read([tmp_path / "nothing"])


@pytest.mark.parametrize("wrong", [None, -7, "x", [], {"a": [1]}, [1, "b"], float("nan"), True], ids=repr)
def test_whatever_a_file_holds_it_is_shown_or_named(tmp_path: Path, cache: Path, wrong: Any) -> None:
    document = made_result(made_cell(test_tasks=20)).to_json()
    files = list(spoiled(document, wrong))
    for number, spoiled_document in enumerate(files):
        (tmp_path / f"{number:04d}.json").write_text(json.dumps(spoiled_document))

    contents = index.read([tmp_path], cache)

    assert len(contents.rows) + len(contents.problems) == len(files) > 200
    assert all(problem.what for problem in contents.problems)
    again = index.read([tmp_path], cache)
    assert len(again.rows) == len(contents.rows)
    whole = Results.of([made_result(made_cell("other", test_tasks=20))])
    for row, scores in zip(contents.rows, contents.scores, strict=True):
        both = Results([row, *(dict(r) for r in whole.rows)], [scores[0], *whole.scores])
        assert shown(Content.of(both))


def test_nesting_without_end_is_named(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)

    (problem,) = index.read([tmp_path], cache).problems
    assert problem.file.endswith("deep.json")


def test_results_that_are_not_published_are_left_out_of_those_that_are(tmp_path: Path) -> None:
    published, local = tmp_path / "s-v1" / "machine" / "a.json", tmp_path / "local" / "s-v1" / "a.json"
    for path in (published, local):
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    assert index.files([tmp_path]) == ([published], [])
    assert index.files([tmp_path / "local"]) == ([local], [])
