"""Damaged results and suites through the commands that read them: no traceback, each is named or shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from helpers.mutations import mutated_results, mutated_suites
from helpers.results import made_cell, store, untrained
from helpers.shell import ROOT
from helpers.submissions import consistent, honest, honest_result
from metabench.cli import metabench
from metabench.errors import MetabenchError
from metabench.plugins import load
from metabench.publishing import verify
from metabench.records.cell import Status
from metabench.report.content import Content
from metabench.report.output import render, write_reports
from metabench.results.table import Results

FORMATS = ("markdown", "csv", "json", "latex", "html")
QUICK, MANY, MANY_SUITES = 200, 1_500, 500
QUICK_SUITES = 100


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    """A result of each sort: trained, to a target, over ranks, untrained, failed."""
    results = [
        honest_result(made_cell("protonet", test_tasks=6, steps=100, target=0.4)),
        honest_result(
            made_cell("maml", test_tasks=6, steps=100, ranks=2, backend="cpu-ranks", group="scaling")
        ),
        consistent(untrained(made_cell("nearest-neighbour", test_tasks=6, steps=0), 0.5)),
        honest_result(made_cell("cnp"), status=Status.FAILED, reason="it failed", scores=None, training=None),
    ]
    return [json.loads(json.dumps(result.to_json())) for result in results]


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two sound results, to which the damaged ones are added."""
    monkeypatch.setenv("METABENCH_CACHE", str(tmp_path / "cache"))
    return store(tmp_path / "results", honest([0, 1], ["protonet"]))[0].parent


def check_reports(folder: Path, mutants: Sequence[tuple[str, str, bytes]], formats: Sequence[str]) -> None:
    """Every damaged file alone beside sound ones: all tables and formats, and the file is in or is named."""
    registry = load()
    for name, what, content in mutants:
        path = folder / name
        path.write_bytes(content)
        try:
            results = Results.read([folder])
            shown = {row["file"] for row in results.rows} | {problem.file for problem in results.problems}
            content_of = Content.of(results)
            text = render(content_of.sections(), content_of.problems)
            write_reports(content_of, folder.parent / "out", formats, registry, {"site": {"pictures": 0}})
        except Exception as error:
            raise AssertionError(f"{name} ({what}): {error!r}\n{content[:3000]!r}") from error
        assert str(path) in shown, (name, what)
        assert text.isprintable() or not set(text) & set("\x00\x1b\x07\x9b")
        for page in (folder.parent / "out").glob("*-v*.html"):
            json.loads(_data(page), parse_constant=_refuse)
        path.unlink()


def _data(page: Path) -> str:
    """The data of a leaderboard as its script reads it; "{}" where it has none."""
    match = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    return match[1] if match else "{}"


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON: no browser shows the page")


def check_verify(folder: Path, mutants: Sequence[tuple[str, str, bytes]]) -> None:
    """All damaged files at once: each is verified or is named."""
    for name, _, content in mutants:
        (folder / name).write_bytes(content)

    verified = verify([folder])

    named = {finding.file for finding in verified.findings} | {str(path) for path in verified.files}
    assert {str(folder / name) for name, _, _ in mutants} <= named
    assert all(str(finding).strip() for finding in verified.findings)
    for name, _, _ in mutants:
        (folder / name).unlink()


@pytest.mark.parametrize("part", range(4))
def test_damaged_results_are_shown_or_named(documents: list[dict[str, Any]], good: Path, part: int) -> None:
    mutants = list(mutated_results(documents, QUICK, seed=1))[part::4]
    check_reports(good, mutants, [])
    check_reports(good, mutants[:10], [*FORMATS, "site"])


def test_verify_names_every_damaged_result(documents: list[dict[str, Any]], good: Path) -> None:
    check_verify(good, list(mutated_results(documents, QUICK, seed=1)))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(15))
def test_many_damaged_results_are_shown_or_named(
    documents: list[dict[str, Any]], good: Path, part: int
) -> None:
    mutants = list(mutated_results(documents, MANY, seed=2))[part::15]
    check_reports(good, mutants, [*FORMATS, "site"])
    check_verify(good, mutants)


def dry_runs(folder: Path, mutants: Iterator[tuple[str, bytes]]) -> None:
    """`metabench run --dry-run` of every damaged suite: a plan, or a mistake in words."""
    for name, content in mutants:
        path = folder / name
        path.write_bytes(content)
        done = CliRunner().invoke(
            metabench,
            ["run", str(path), "--dry-run", "--results", str(folder / "results")],
            standalone_mode=False,
        )
        expected = (MetabenchError, click.ClickException)
        assert done.exception is None or (isinstance(done.exception, expected) and str(done.exception)), (
            f"{name}: {done.exception!r}\n{content[:3000]!r}"
        )


@pytest.fixture(scope="module")
def suites() -> list[str]:
    return [path.read_text() for path in sorted((ROOT / "suites").glob("*.toml"))]


def test_damaged_suites_are_planned_or_refused(suites: list[str], tmp_path: Path) -> None:
    dry_runs(tmp_path, mutated_suites(suites, QUICK_SUITES, seed=3))


@pytest.mark.slow
def test_many_damaged_suites_are_planned_or_refused(suites: list[str], tmp_path: Path) -> None:
    dry_runs(tmp_path, mutated_suites(suites, MANY_SUITES, seed=4))
