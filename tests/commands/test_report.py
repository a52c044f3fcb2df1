"""`metabench report`: the tables, formats and settings that were asked for, and mistakes that are named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.results import made_board, made_cell, made_result, store
from metabench.cli import metabench
from metabench.errors import MetabenchError, RequestError


def run(*arguments: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(metabench, ["report", *arguments], standalone_mode=False)
    if outcome.exception is not None:
        raise outcome.exception
    return int(outcome.return_value), outcome.output


def test_the_command_shows_chosen_tables_and_writes_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    store(tmp_path / "results", made_board(test_tasks=60))

    code, text = run(str(tmp_path / "results"), "--table", "scores", "--only", "algorithm=maml", "--format",
                     "markdown,json", "--output", str(tmp_path / "out"))  # fmt: skip

    assert code == 0
    assert "Scores" in text
    assert "Wall time" not in text
    assert "protonet" not in text
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == {"report.md", "report.json"}


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of results with a cache of their own."""
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    store(tmp_path / "results", made_board(test_tasks=60))
    return str(tmp_path / "results")


def test_files_hold_the_chosen_tables_in_the_chosen_order(stored: str, tmp_path: Path) -> None:
    out = tmp_path / "out"

    run(stored, "--table", "scores,wall-time", "--sort", "score", "--output", str(out), "--format",
        "markdown,csv,json,latex,html")  # fmt: skip

    methods = ["nearest-neighbour", "maml", "protonet"]
    rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == methods
    tables = json.loads((out / "report.json").read_text())["tables"]
    assert [table["name"] for table in tables] == ["scores", "wall-time"]
    assert [row["method"] for row in tables[0]["rows"]] == methods
    for name in ("report.md", "report.tex", "report.html"):
        text = (out / name).read_text()
        at = [text.index(method) for method in methods]
        assert at == sorted(at), name
        assert "Strong scaling" not in text, name
    assert not (out / "scaling.csv").exists()


def test_files_hold_the_pivot(stored: str, tmp_path: Path) -> None:
    out = tmp_path / "out"

    run(
        stored,
        "--pivot",
        "method:shots",
        "--sort",
        "-method",
        "--format",
        "markdown,csv,latex",
        "--output",
        str(out),
    )

    rows = list(csv.DictReader((out / "pivot.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["protonet", "nearest-neighbour", "maml"]
    assert "± " in rows[0]["at 1"]
    assert "Score by method and shots" in (out / "report.md").read_text()
    assert "shots 1" in (out / "report.tex").read_text()
    assert not (out / "scores.csv").exists()


def test_a_price_reaches_the_files(stored: str, tmp_path: Path) -> None:
    run(stored, "--price-per-hour", "2", "--format", "csv", "--output", str(tmp_path / "out"))

    rows = list(csv.DictReader((tmp_path / "out" / "cost.csv").read_text().splitlines()))
    assert float(rows[0]["money per step"]) == pytest.approx(2 / 3600 * 0.02, rel=0.05)


def test_a_report_takes_settings(stored: str, tmp_path: Path) -> None:
    out = tmp_path / "out"

    run(stored, "--format", "csv,plots:formats=svg,pdf", "--format", "markdown", "--output", str(out))

    assert {path.suffix for path in out.glob("[!.]*")} == {".csv", ".svg", ".pdf", ".md"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [("plots:format=svg", "did you mean 'formats'"), ("plots:formats=gif", "known: pdf"),
     ("marckdown", "did you mean 'markdown'"), ("plots:", "no setting follows")],
)  # fmt: skip
def test_a_mistake_in_a_format_is_named(stored: str, tmp_path: Path, wrong: str, message: str) -> None:
    with pytest.raises(MetabenchError, match=message):
        run(stored, "--format", wrong, "--output", str(tmp_path / "out"))


def test_an_empty_folder_is_a_mistake_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "results").mkdir()

    with pytest.raises(RequestError, match="no results in it; `metabench run quick`"):
        run(str(tmp_path / "results"))


def test_a_choice_that_leaves_nothing_is_a_mistake(stored: str) -> None:
    with pytest.raises(RequestError, match="no result is left"):
        run(stored, "--only", "method=maml", "--skip", "method=maml")
    with pytest.raises(RequestError, match="leave out --table"):
        run(stored, "--pivot", "method:shots", "--table", "cost")


def test_results_of_a_plugin_that_is_not_installed_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    store(tmp_path / "results", [made_result(made_cell("not-installed", plugin="elsewhere 3.1"), 0.7)])

    code, text = run(str(tmp_path / "results"))

    assert code == 0
    assert "not-installed" in text
    assert "elsewhere 3.1" in text


def test_open_shows_the_page_in_the_browser(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: bool(opened.append(address)) or len(opened) == 1)
    out = tmp_path / "out"
    run(stored, "--open", "--output", str(out))
    assert opened == [(out / "report.html").as_uri()]
    assert "maml" in (out / "report.html").read_text()
    with pytest.raises(RequestError, match="no browser can be started here"):
        run(stored, "--open", "--output", str(out))
