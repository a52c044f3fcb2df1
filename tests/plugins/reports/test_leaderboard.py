"""The pages of the leaderboard, without a browser: links, markup, failures, and what a reader must know."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.pages import board_site, built, hostile_site
from helpers.results import made_board, made_cell, made_result, store
from metabench.cli import metabench
from metabench.errors import RequestError

pytest.importorskip("jinja2", reason="the site needs Jinja2: pip install 'metabench[site]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return board_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_site(tmp_path_factory.mktemp("hostile"))


def test_no_page_holds_markup_from_a_result(hostile: Path) -> None:
    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.scripts: list[dict[str, str | None]] = []
            self.images: list[str | None] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "script":
                self.scripts.append(dict(attrs))
            if tag == "img":
                self.images.append(dict(attrs)["src"])

    for page in hostile.glob("*.html"):
        parser = Tags()
        parser.feed(page.read_text())
        assert all("src" in script or script.get("type") == "application/json" for script in parser.scripts)
        assert all(src is not None and src.startswith("plots/") for src in parser.images)


def test_every_row_links_to_its_raw_results_and_the_command_that_repeats_them(site: Path) -> None:
    text = (site / "made-v1.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]

    assert len(data["rows"]) == 4
    for row in data["rows"]:
        assert len(row["raw"]) == 3
        for _, file in row["raw"]:
            assert json.loads((site / file).read_text())["status"] == "ok"
        assert re.fullmatch(r"metabench reproduce results/made-v1/[\w.-]+\.json", row["reproduce"])


def test_every_local_link_leads_somewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        for target in re.findall(r'(?:href|src)="([^"#:]+)"', page.read_text()):
            assert (site / target).exists(), f"{page.name}: {target}"


def test_the_rules_explain_every_label(site: Path) -> None:
    rules = (site / "rules.html").read_text()
    labels = ("kept state", "overlap unknown", "resumed", "code not recorded", "budget-limited", "withdrawn")
    assert [label for label in labels if f"<b>{label}</b>" not in rules] == []


def test_failures_are_a_page(site: Path) -> None:
    text = (site / "failures.html").read_text()

    assert "out-of-memory" in text
    assert "the host has no memory left" in text


def test_the_same_results_make_the_same_site(tmp_path: Path) -> None:
    results = made_board(test_tasks=60)
    once, twice = (built(results, tmp_path / name) for name in "ab")

    for file in once.rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (twice / file.relative_to(once)).read_bytes(), file


def test_an_empty_folder_makes_no_site(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()

    with pytest.raises(RequestError, match="nothing to show"):
        built([], tmp_path)


def test_many_suites_have_a_picture_each(tmp_path: Path) -> None:
    results = [made_result(made_cell(suite=f"s{i}", test_tasks=20)) for i in range(3)]

    few = built(results, tmp_path / "few", "--pictures", "2")
    none = built(results, tmp_path / "none", "--pictures", "0")

    for i in range(3):
        page = (few / f"s{i}-v1.html").read_text()
        assert page.count("<img") == 1
        assert "shows 1 picture at most" in page
        assert "<img" not in (none / f"s{i}-v1.html").read_text()


def test_a_broken_file_is_told_on_the_first_page(tmp_path: Path) -> None:
    (path, *_) = store(tmp_path / "results", made_board(test_tasks=60))
    (path.parent / "foreign.json").write_text("{")

    site = built(made_board(test_tasks=60), tmp_path, "--pictures", "0")

    text = (site / "index.html").read_text()
    assert "<li>foreign.json: " in text
    assert str(tmp_path) not in text


def test_times_of_several_machines_are_not_shown_without_a_word(tmp_path: Path) -> None:
    here, there = (made_result(made_cell(n, test_tasks=60), machine=n) for n in ("here", "there"))
    alone = built([here], tmp_path / "one", "--pictures", "0")
    both = built([here, there], tmp_path / "two", "--pictures", "0")

    assert "Several machines" not in (alone / "made-v1.html").read_text()
    assert "Several machines" in (both / "made-v1.html").read_text()


def test_the_name_of_a_foreign_file_cannot_move_the_terminal(tmp_path: Path) -> None:
    (path,) = store(tmp_path / "results", [made_result()])
    (path.parent / "foreign\x1b[2J.json").write_text("{}")

    arguments = [str(tmp_path / "results"), "-o", str(tmp_path / "site"), "--pictures", "0"]
    outcome = CliRunner().invoke(
        metabench, ["leaderboard", *arguments], env={"METABENCH_CACHE": str(tmp_path / "c")}
    )

    assert "foreign [2J.json" in outcome.output
    assert "\x1b" not in outcome.output
