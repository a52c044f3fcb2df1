"""Reports replace what metabench wrote, and nothing else: no file of a person, nothing through a link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helpers.reports import content_of
from helpers.results import made_board, store
from helpers.submissions import run
from metabench.errors import RequestError
from metabench.plugins import load
from metabench.report.output import write_reports


@pytest.fixture
def jinja() -> None:
    pytest.importorskip("jinja2", reason="the site needs Jinja2: pip install 'metabench[site]'")


def write(folder: Path, *formats: str, ours: bool = False) -> list[Path]:
    settings = {"site": {"pictures": 0}}
    return write_reports(
        content_of(made_board(test_tasks=20)), folder, formats or ["markdown"], load(), settings, ours=ours
    )


def test_a_report_replaces_its_own_files(tmp_path: Path) -> None:
    (first,) = write(tmp_path / "out")
    first.write_text("edited")

    (second,) = write(tmp_path / "out")

    assert first == second == tmp_path / "out" / "report.md"
    assert second.read_text().startswith("# Results")


def test_a_persons_file_is_never_replaced_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("mine")

    with pytest.raises(RequestError, match=r"results\.csv is there already and metabench did not write it"):
        write(tmp_path, "markdown", "csv")

    assert {path.name for path in tmp_path.iterdir()} == {"results.csv"}
    assert (tmp_path / "results.csv").read_text() == "mine"


def test_a_folder_of_a_run_holds_nothing_but_reports(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("of a version before")

    (path,) = write(tmp_path, ours=True)

    assert path.read_text().startswith("# Results")


@pytest.mark.parametrize("ours", [False, True])
def test_nothing_is_written_through_a_link(tmp_path: Path, ours: bool) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_text("precious")
    write(out)
    (out / "report.md").unlink()
    (out / "report.md").symlink_to(victim)

    with pytest.raises(RequestError, match="is a link"):
        write(out, ours=ours)

    assert victim.read_text() == "precious"


@pytest.mark.usefixtures("jinja")
def test_a_site_keeps_the_page_of_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    store(tmp_path / "results", made_board(test_tasks=20))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("mine")
    request = (str(tmp_path / "results"), "-o", str(tmp_path / "site"), "--pictures", "0")

    with pytest.raises(RequestError, match=r"index\.html is there already"):
        run("leaderboard", *request)
    assert (tmp_path / "site" / "index.html").read_text() == "mine"

    (tmp_path / "site" / "index.html").rename(tmp_path / "site" / "about.html")
    for _ in range(2):
        assert run("leaderboard", *request)[0] == 0
    assert (tmp_path / "site" / "about.html").read_text() == "mine"


@pytest.mark.usefixtures("jinja")
def test_a_site_leads_into_no_linked_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "raw").symlink_to(tmp_path / "elsewhere")
    results = tmp_path / "results"
    store(results, made_board(test_tasks=20))

    with pytest.raises(RequestError, match="raw is a link"):
        run("leaderboard", str(results), "-o", str(tmp_path / "site"), "--pictures", "0")

    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.usefixtures("jinja")
def test_a_site_shares_no_bytes_with_the_results_it_was_built_from(tmp_path: Path) -> None:
    results = store(tmp_path / "results", made_board(test_tasks=20))
    before = [path.read_bytes() for path in results]
    run("leaderboard", str(tmp_path / "results"), "-o", str(tmp_path / "site"), "--pictures", "0")

    copies = list((tmp_path / "site" / "raw").rglob("*.json"))
    for path in copies:
        with open(path, "ab") as file:
            file.write(b" ")

    assert len(copies) == 9
    assert [path.read_bytes() for path in results] == before
