"""Withdrawn results: their rows are struck through and in no tier, and lists that are wrong are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.results import made_board, store
from helpers.submissions import honest, run
from metabench.plugins import load
from metabench.publishing import readme, verify
from metabench.report.content import Content
from metabench.report.output import write_reports
from metabench.results import cache as index
from metabench.results.table import Results
from metabench.results.withdrawn import NAME

REASON = "trained on test images"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    store(tmp_path / "results", made_board(test_tasks=60))
    return tmp_path / "results"


def digest_in(path: Path) -> str:
    return str(json.loads(path.read_text())["digest"])


def entry(digest: str, reason: str = f'reason = "{REASON}"', date: str = "date = 2026-11-28") -> str:
    return f'[[withdrawn]]\ndigest = "{digest}"\n{reason}\n{date}\n'


@pytest.mark.parametrize("place", [".", "made-v1"])
def test_a_row_with_a_withdrawn_seed_is_in_no_tier(folder: Path, place: str) -> None:
    best = next(folder.rglob("protonet-*-s1-*.json"))
    before = Content.of(Results.read([folder]))  # also what the cache keeps
    (folder / place / NAME).write_text(entry(digest_in(best)))

    content = Content.of(Results.read([folder]))

    ranks = {summary["method"]: summary["rank"] for summary in content.ranked}
    assert {summary["method"]: summary["rank"] for summary in before.ranked}["protonet"] == 1
    assert ranks == {"protonet": None, "maml": 1, "nearest-neighbour": 1}  # maml is transductive
    (row,) = [summary for summary in content.ranked if summary["method"] == "protonet"]
    assert (row["withdrawn"], row["seeds"]) == (f"{REASON}, 2026-11-28", 3)
    assert all(summary["rivals"] == 1 for summary in content.ranked if summary is not row)


def test_every_format_strikes_the_row_through(folder: Path, tmp_path: Path) -> None:
    (folder / NAME).write_text(entry(digest_in(next(folder.rglob("protonet-*-s0-*.json")))))
    content = Content.of(Results.read([folder]))
    formats = ["markdown", "html", "latex", "csv", "json", "site"]
    write_reports(content, tmp_path / "out", formats, load(), {"site": {"pictures": 0}})

    files = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.*") if path.is_file()}
    struck = [line for line in files["report.md"].splitlines() if "~~protonet~~" in line]
    assert struck
    assert all(REASON in line for line in struck)
    assert "~~maml~~" not in files["report.md"]
    assert "<s>protonet</s>" in files["report.html"]
    assert REASON in files["report.tex"]
    assert REASON in files["scores.csv"]
    rows = json.loads(files["report.json"])["tables"][0]["rows"]
    assert {row["method"]: bool(row["withdrawn"]) for row in rows}["protonet"]
    assert '"withdrawn": true' in files["made-v1.html"]
    assert REASON in run("report", str(folder))[1]


def test_the_page_of_published_results_strikes_it_through(folder: Path) -> None:
    (folder / NAME).write_text(entry(digest_in(next(folder.rglob("protonet-*-s0-*.json")))))

    assert "~~protonet~~" in readme(folder)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (entry("a" * 64), "no result beneath has the digest aaaa"),
        (entry("abc"), "digest must be the 64 hexadecimal digits"),
        (entry("a" * 64, reason='reason = " "'), "reason must say why"),
        (entry("a" * 64, reason=""), "reason must say why"),
        (entry("a" * 64, date='date = "soon"'), "date must be a day"),
        (entry("a" * 64) + "digets = 1\n", "unknown key 'digets'"),
        ("withdrawn = 3", "withdrawn must be tables"),
        ("x = " + "[" * 5_000, "cannot be read"),
        ("\x00", "cannot be read"),
    ],
)
def test_verify_names_what_is_wrong_with_a_list(tmp_path: Path, text: str, what: str) -> None:
    paths = store(tmp_path, honest([0], ["maml"]))
    (paths[0].parent / NAME).write_text(text)

    errors = [finding for finding in verify([tmp_path]).errors if finding.check == "withdrawn"]

    assert any(what in finding.what for finding in errors)
    assert all(finding.file.endswith(NAME) for finding in errors)


def test_a_digest_of_a_folder_that_was_not_read_is_not_unknown(tmp_path: Path) -> None:
    first, second = store(tmp_path / "results", honest([0], ["maml", "protonet"]))
    (tmp_path / "results" / NAME).write_text(entry(digest_in(second)))

    assert not [finding for finding in verify([first]).findings if finding.check == "withdrawn"]
    (notice,) = [finding for finding in verify([second]).findings if finding.check == "withdrawn"]
    assert not notice.serious
    assert REASON in notice.what


def test_reports_name_a_list_that_is_wrong_and_go_on(folder: Path) -> None:
    (folder / NAME).write_text("x = ")

    results = index.read([folder])

    assert len(results.rows) == 12
    (problem,) = results.problems
    assert problem.file == str(folder / NAME)
