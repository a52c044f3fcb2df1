"""Reports: each format against its golden file, and results full of markup shown as text.

To write the golden files anew: `METABENCH_GOLDEN=1 pytest tests/plugins/reports/test_formats.py`.
"""

from __future__ import annotations

import csv
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.figure
import pytest

from helpers.reports import content_of, shown, table_of
from helpers.results import HOSTILE, made_board, made_cell, made_result
from helpers.shell import ROOT
from metabench import Result
from metabench.plugins import Registry, load
from metabench.records import Status, Summary
from metabench.report.output import render, write_reports
from metabench_plugins.reports import plots

GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load()


def compared(name: str, text: str) -> None:
    """Compares text with a golden file, or writes that file where this is asked for."""
    path = GOLDEN / name
    if os.environ.get("METABENCH_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def written(registry: Registry, folder: Path, form: str, results: list[Result]) -> str:
    (path,) = write_reports(content_of(results), folder, [form], registry)
    return path.read_text(encoding="utf-8")


def test_the_terminal_shows_what_its_golden_file_says() -> None:
    compared("report.txt", shown(content_of(made_board(test_tasks=60))) + "\n")


@pytest.mark.parametrize(("form", "name"), [("markdown", "report.md"), ("latex", "report.tex"),
                                            ("html", "report.html")])  # fmt: skip
def test_a_text_format_is_what_its_golden_file_says(
    form: str, name: str, registry: Registry, tmp_path: Path
) -> None:
    compared(name, written(registry, tmp_path, form, made_board(test_tasks=60)))


def test_json_is_what_its_golden_file_says(registry: Registry, tmp_path: Path) -> None:
    report = json.loads(written(registry, tmp_path, "json", made_board(test_tasks=60)))
    report["results"] = report["results"][:1]
    path = GOLDEN / "report.json"
    if os.environ.get("METABENCH_GOLDEN"):
        path.write_text(json.dumps(report, indent=1) + "\n")

    assert close(report, json.loads(path.read_text()))


def test_csv_is_what_its_golden_file_says(registry: Registry, tmp_path: Path) -> None:
    paths = write_reports(content_of(made_board(test_tasks=60)), tmp_path, ["csv"], registry)

    names = {path.name for path in paths}
    assert names == {
        "results.csv",
        "scores.csv",
        "wall-time.csv",
        "scaling.csv",
        "cost.csv",
        "failures.csv",
    }
    text = (tmp_path / "scores.csv").read_text()
    path = GOLDEN / "scores.csv"
    if os.environ.get("METABENCH_GOLDEN"):
        path.write_text(text)
    rows, golden = (list(csv.DictReader(table.splitlines())) for table in (text, path.read_text()))
    assert close([{k: number(v) for k, v in row.items()} for row in rows],
                 [{k: number(v) for k, v in row.items()} for row in golden])  # fmt: skip
    assert len(list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))) == 12


def number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def close(value: Any, golden: Any) -> bool:
    """Equal, with figures equal to nine digits."""
    if isinstance(value, dict) and isinstance(golden, dict):
        return value.keys() == golden.keys() and all(close(value[k], golden[k]) for k in value)
    if isinstance(value, list) and isinstance(golden, list):
        return len(value) == len(golden) and all(map(close, value, golden))
    if isinstance(value, float) and isinstance(golden, (int, float)):
        return value == pytest.approx(golden, rel=1e-9, abs=1e-12)
    return bool(value == golden)


@pytest.fixture(scope="module")
def hostile() -> list[Result]:
    """Results whose every text is markup, script, or an escape sequence."""
    cell = made_cell(HOSTILE, label=HOSTILE, dataset=HOSTILE, network=HOSTILE, suite=HOSTILE, plugin=HOSTILE)
    good = made_result(
        cell, machine=HOSTILE, notes=(HOSTILE,), command=HOSTILE, started="2026-01-01T00:00:00+00:00"
    )
    other = made_result(made_cell(HOSTILE, dataset=HOSTILE, suite=HOSTILE), 0.6, machine=HOSTILE)
    failed = replace(good, cell=made_cell(HOSTILE, 1, suite=HOSTILE), status=Status.FAILED, reason=HOSTILE,
                     log_tail=(HOSTILE,), scores=None, training=None)  # fmt: skip
    return [good, other, failed]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.add(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_html_shows_markup_as_text(hostile: list[Result], registry: Registry, tmp_path: Path) -> None:
    tags = Tags()
    tags.feed(written(registry, tmp_path, "html", hostile))

    assert "<img src=x onerror=alert(1)>" in "".join(tags.text)
    assert not tags.found & {"img", "script", "a", "iframe", "svg"}


def test_markdown_shows_markup_as_text(hostile: list[Result], registry: Registry, tmp_path: Path) -> None:
    text = written(registry, tmp_path, "markdown", hostile)

    assert "&lt;img" in text
    assert "<img" not in text
    assert not re.search(r"(?<!\\)\[x(?<!\\)\]\(", text)
    assert "\x1b" not in text


def test_latex_shows_commands_as_text(hostile: list[Result], registry: Registry, tmp_path: Path) -> None:
    text = written(registry, tmp_path, "latex", hostile)

    assert "\\input" not in text
    assert r"\textbackslash{}input" in text


def test_no_format_lets_an_escape_sequence_through(
    hostile: list[Result], registry: Registry, tmp_path: Path
) -> None:
    table = content_of(hostile)
    texts = [shown(table)]
    for form in ("markdown", "latex", "html"):
        texts.append(written(registry, tmp_path / form, form, hostile))

    assert all("\x1b" not in text for text in texts)


def test_csv_runs_no_formula(registry: Registry, tmp_path: Path) -> None:
    cell = made_cell("maml", label="=cmd|'/c calc'!A0")
    write_reports(content_of([made_result(cell)]), tmp_path, ["csv"], registry)

    for path in tmp_path.glob("*.csv"):
        for row in csv.reader(path.read_text().splitlines()):
            assert not any(value.startswith("=") for value in row)


@pytest.mark.parametrize("text", ["＝1+1", "\t=1+1", "  =1+1", "\r\n@SUM(A1)", "\x1b[2J=1", "a\x00b\nc"])
def test_csv_has_no_control_character_in_values_nor_headers(
    registry: Registry, tmp_path: Path, text: str
) -> None:
    cell = made_cell("maml", label=text, dataset=text)
    content = content_of([made_result(cell, energy={text: 1.0}, training=None, notes=(text,))])
    pivoted = content.showing([content.pivot("method", "dataset"), *content.sections()])
    write_reports(pivoted, tmp_path, ["csv"], registry)

    for path in tmp_path.glob("*.csv"):
        written_text = path.read_text()
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", written_text)
        for row in csv.reader(written_text.splitlines()):
            assert not any(value.startswith(("=", "＝", "@")) for value in row)


def test_markdown_links_and_renders_nothing(registry: Registry, tmp_path: Path) -> None:
    text = "www.evil.example WWW.evil.example http://x.example ~~gone~~ $x^2$ #1 @me a@b.c"
    cell = made_cell("maml", label=text, dataset=text)
    content = content_of([made_result(cell, energy={text: 1.0})])
    pivoted = content.showing([content.pivot("method", "dataset"), *content.sections()])
    (path,) = write_reports(pivoted, tmp_path, ["markdown"], registry)

    page = path.read_text()
    assert not re.search(r"www\.|://|[^\\]~|\$|@|(?m:[^#&\n]#[0-9])", page, re.IGNORECASE)
    assert "www&#46;evil.example" in page


def test_plots_are_pictures_and_read_no_formula(
    hostile: list[Result], registry: Registry, tmp_path: Path
) -> None:
    paths = write_reports(content_of([*hostile, *made_board(test_tasks=60)]), tmp_path, ["plots"], registry)

    names = {path.name for path in paths}
    for start in ("time-made", "learning-made", "adaptation-made", "scaling-"):
        assert {Path(n).suffix for n in names if n.startswith(start)} == {".svg", ".png"}
    for path in paths:
        if path.suffix == ".svg":
            tree = ElementTree.parse(path)
            assert not [e for e in tree.iter() if e.tag.endswith(("script", "image"))]
        else:
            assert path.read_bytes().startswith(b"\x89PNG")


def test_pictures_are_the_same_at_every_run(registry: Registry, tmp_path: Path) -> None:
    results = made_board(test_tasks=60)
    once, twice = (
        {p.name: p.read_bytes() for p in write_reports(content_of(results), tmp_path / n, ["plots"], registry,
                                                       {"plots": {"formats": ["svg"]}})}
        for n in "ab"
    )  # fmt: skip

    assert once == twice


def test_times_of_different_machines_share_no_picture(registry: Registry, tmp_path: Path) -> None:
    results = [made_result(made_cell("a"), machine="x"), made_result(made_cell("b"), machine="y")]

    paths = write_reports(content_of(results), tmp_path, ["plots"], registry)

    assert paths
    assert not [path for path in paths if path.name.startswith("time-")]


def test_references_reach_the_files_with_source_and_verdict(registry: Registry, tmp_path: Path) -> None:
    results = [made_result(made_cell("maml", dataset="omniglot"), 0.90)]
    for form in ("csv", "json", "latex"):
        write_reports(content_of(results), tmp_path, [form], registry)

    source = "98.7 ± 0.4 % (paper: Finn et al. 2017 (quoted by Betty and FSL-Mate)"
    row = next(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert f"{source}): cannot tell (-8" in row["references"]
    first = json.loads((tmp_path / "report.json").read_text())["tables"][0]["rows"][0]["references"][0]
    assert (first["accuracy"], first["half_width"], first["kind"]) == (0.987, 0.004, "paper")
    assert first["source"].startswith("Finn et al. 2017")
    assert first["verdict"].startswith("cannot tell (-8")
    assert r"98.7 $\pm$ 0.4 \% (paper: Finn et al. 2017" in (tmp_path / "report.tex").read_text()


def test_the_time_to_a_target_is_what_its_golden_file_says() -> None:
    accuracies = {"maml": 0.75, "protonet": 0.76, "reptile": 0.72}
    results = [
        made_result(made_cell(name, seed, target=0.7, test_tasks=60), accuracy)
        for name, accuracy in accuracies.items()
        for seed in range(5 if name == "maml" else 3)
    ]
    for number, status in ((1, "out-of-memory"), (2, "failed")):
        cell = results[-number].cell
        results[-number] = made_result(cell, status=Status(status), scores=None, training=None)
    table = content_of(results)

    compared("time-to-target.txt", render([table_of(table, "time-to-target")]) + "\n")


def test_pictures_of_times_are_one_per_machine(registry: Registry, tmp_path: Path) -> None:
    results = [made_result(made_cell(n), machine=machine) for n in "ab" for machine in ("x", "y")]

    paths = write_reports(content_of(results), tmp_path, ["plots"], registry, {"plots": {"formats": ["svg"]}})

    times = sorted(path.stem for path in paths if path.name.startswith("time-"))
    assert [name[-2:] for name in times] == ["-x", "-y"]


def test_every_ring_of_the_pareto_front_is_around_a_point() -> None:
    (summary,) = content_of([made_result()]).summaries
    summaries: list[Summary] = [
        {**summary, "training_seconds": 1.0 + n, "mean": n / 100, "method": f"m{n}"} for n in range(20)
    ]
    axes = matplotlib.figure.Figure().subplots()

    assert plots._against_time(summaries, axes)

    points = {(bar[0].get_xdata()[0], bar[0].get_ydata()[0]) for bar in axes.containers}
    rings = {tuple(ring) for ring in axes.collections[-1].get_offsets().tolist()}
    assert len(points) == plots.MOST
    assert rings <= points
