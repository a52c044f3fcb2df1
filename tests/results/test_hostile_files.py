"""One hostile file never blocks a report: it is passed over by its name with the reason, the rest is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.results import made_board, made_result, store
from helpers.submissions import run
from metabench.records.document import LONGEST_TEXT, DocumentError, read_document
from metabench.records.files import read_result, write_json
from metabench.results import cache as index


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve good results; the cache is the test's own."""
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    store(tmp_path / "results", made_board(test_tasks=20))
    return tmp_path / "results" / "made-v1"


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    *keys, last, value = path

    def change(document: dict[str, Any]) -> None:
        part: Any = document
        for key in keys:
            part = part[key]
        part[last] = value

    return change


HOSTILE_VALUES = {
    "seed of 400 digits": (put("cell", "seed", 10**400), "401 digits"),
    "seconds of 400 digits": (put("wall_seconds", 10**400), "401 digits"),
    "a target of 400 digits": (put("cell", "budget", "target", 10**400), "401 digits"),
    "half of a surrogate pair": (put("cell", "label", "\ud800"), "surrogate"),
    "a name that is half of a pair": (put("environment", "\udfff", 1), "surrogate"),
    "a text without end": (put("reason", "x" * (LONGEST_TEXT + 1)), "characters"),
    "an infinite time": (put("wall_seconds", float("inf")), "Infinity"),
    "a score that is none": (put("scores", "per_task", 0, None), "finite"),
    "a score beyond all numbers": (put("scores", "per_task", 0, float("nan")), "NaN"),
    "an environment without end": (put("environment", "x", json.loads("[" * 500 + "]" * 500)), "levels"),
    "an unknown status": (put("status", "great"), "great"),
    "a list of statuses": (put("status", ["ok"]), "ok"),
}


@pytest.mark.parametrize("name", HOSTILE_VALUES)
def test_a_hostile_value_costs_its_own_file_only(folder: Path, name: str) -> None:
    change, reason = HOSTILE_VALUES[name]
    victim = next(folder.glob("protonet-*-s0-*.json"))
    document = json.loads(victim.read_text())
    change(document)
    victim.write_text(json.dumps(document))

    results = index.read([folder])

    assert len(results.rows) == 11
    (problem,) = results.problems
    assert problem.file == str(victim)
    assert reason in problem.what


def test_report_and_verify_name_every_hostile_file(folder: Path) -> None:
    document = json.loads(next(folder.glob("protonet-*-s0-*.json")).read_text())
    for number, (change, _) in enumerate(HOSTILE_VALUES.values()):
        hostile = json.loads(json.dumps(document))
        change(hostile)
        (folder / f"hostile{number}.json").write_text(json.dumps(hostile))
    os.mkfifo(folder / "fifo.json")
    (folder / "link.json").symlink_to("/dev/zero")
    names = {"fifo.json", "link.json", *(f"hostile{number}.json" for number in range(len(HOSTILE_VALUES)))}

    code, report = run("report", str(folder))
    _, verified = run("verify", str(folder))

    assert code == 0
    assert {name for name in names if name in report} == names
    assert {name for name in names if name in verified} == names


def test_a_number_beyond_the_floats_reaches_no_row(folder: Path) -> None:
    victim = next(folder.glob("protonet-*-s0-*.json"))
    victim.write_text(victim.read_text().replace('"wall_seconds": 30.0', '"wall_seconds": 1e999'))

    (problem,) = index.read([folder]).problems

    assert "wall_seconds is inf" in problem.what


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "a FIFO"),
        (lambda path: path.symlink_to("/dev/zero"), "a link"),
        (lambda path: path.symlink_to("/dev/stdin"), "a link"),
        (lambda path: path.symlink_to("nowhere"), "a link"),
        (lambda path: path.symlink_to(path.name), "a link"),
        (lambda path: path.write_text("[" * 1_000_000 + "]" * 1_000_000), "levels"),
        (lambda path: path.write_text('{"a":' * 1_000_000), "levels"),
        (lambda path: path.write_bytes(b'{"a": "\xff"}'), "no UTF-8"),
        (lambda path: path.write_text('{"a": 1, "a": 2}'), "twice"),
    ],
)
def test_what_is_no_result_is_named(folder: Path, make: Callable[[Path], object], reason: str) -> None:
    make(folder / "x.json")

    results = index.read([folder])

    assert len(results.rows) == 12
    (problem,) = results.problems
    assert problem.file.endswith("x.json")
    assert reason in problem.what


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_in_the_request_is_refused_at_once(device: str) -> None:
    with pytest.raises(DocumentError, match="a device"):
        read_document(Path(device))


def test_brackets_in_texts_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"log": "[" * 500 + '\\"' + "{" * 500}))

    assert read_document(path)["log"].startswith("[[")


def test_a_folder_is_visited_once_whatever_leads_to_it(folder: Path) -> None:
    (folder / "self").symlink_to(".")
    (folder / "up").symlink_to("..")
    (folder / "round").symlink_to("round")

    results = index.read([folder.parent, folder])

    assert len(results.rows) == 12
    assert results.problems == []


def test_a_link_out_of_the_folder_is_named_and_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "all").symlink_to("/")

    (problem,) = index.read([folder]).problems

    assert (problem.file, problem.what) == (str(folder / "all"), index.LINK)
    direct = tmp_path / "direct"
    direct.symlink_to(folder / "all" / str(folder).lstrip("/"))
    assert len(index.read([direct]).rows) == 12  # named in the request


@pytest.fixture
def bottomless(tmp_path: Path) -> Iterator[Path]:
    """A folder with folders in each other, deeper than a path can say."""
    (tmp_path / "x.json").write_text("{}")
    start = os.open(".", os.O_RDONLY)
    os.chdir(tmp_path)
    depth = 0
    try:
        while depth < 2_100:
            os.mkdir("d")
            os.chdir("d")
            depth += 1
        here = os.open(".", os.O_RDONLY)
        os.fchdir(start)
        yield tmp_path
        os.fchdir(here)
        os.close(here)
        for _ in range(depth):  # no program that removes folders by their paths can
            os.chdir("..")
            os.rmdir("d")
    finally:
        os.fchdir(start)
        os.close(start)


def test_folders_that_are_too_deep_for_a_path_are_named(bottomless: Path) -> None:
    files, problems = index.files([bottomless])

    assert files == [bottomless / "x.json"]
    assert [problem.what for problem in problems] == ["cannot be listed: File name too long"]


def test_a_folder_whose_name_is_not_utf8_is_read(folder: Path, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff\xfe"))
    folder.rename(odd)

    for _ in range(2):  # nothing of it is in the cache
        assert len(index.read([odd]).rows) == 12
    formats = "csv,json,markdown,html,latex"
    code, text = run("report", str(odd), "--format", formats, "--output", str(tmp_path / "out"))
    assert code == 0
    assert "Scores" in text
    for path in (tmp_path / "out").iterdir():
        path.read_text(encoding="utf-8")


def test_a_run_in_such_a_folder_stores_what_can_be_read(tmp_path: Path) -> None:
    command = "metabench run quick --results " + os.fsdecode(b"r\xff\xfe")
    result = made_result(command=command, reason="\ud800", log_tail=("\udfff",))

    write_json(tmp_path / "x.json", result.to_json())

    assert read_result(tmp_path / "x.json").command == "metabench run quick --results r??"
