"""Leaderboards that tests look at."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from helpers.results import HOSTILE, made_board, made_cell, made_result, store
from metabench import Result
from metabench.cli import metabench
from metabench.records.cell import Status


def built(results: list[Result], folder: Path, *options: str) -> Path:
    """The site of these results, made by the command itself."""
    store(folder / "results", results)
    arguments = [str(folder / "results"), "-o", str(folder / "site"), *options]
    outcome = CliRunner().invoke(
        metabench,
        ["leaderboard", *arguments],
        standalone_mode=False,
        env={"METABENCH_CACHE": str(folder / "c")},
    )
    if outcome.exception is not None:
        raise outcome.exception
    return folder / "site"


def board_site(folder: Path) -> Path:
    """Two suites: a board on two data sets, and one with sixty methods."""
    more = [made_result(made_cell("protonet", s, dataset="mini-imagenet"), 0.49) for s in range(3)]
    many = [
        made_result(made_cell(f"method{i:02d}", suite="other", test_tasks=60), 0.5 + i / 200)
        for i in range(60)
    ]
    return built([*made_board(), *more, *many], folder)


def hostile_site(folder: Path) -> Path:
    """Results whose every text is markup and script."""
    text = HOSTILE + "</script><script>document.title='taken'</script>"
    cells = [made_cell(f"{text}{i}", label=text, dataset=text, network=text, plugin=text) for i in range(2)]
    good = [made_result(cell, machine=text, notes=(text,), command=text) for cell in cells]
    failed = made_result(
        made_cell("x"), status=Status.FAILED, reason=text, log_tail=(text,), scores=None, training=None
    )
    for i, result in enumerate([*good, failed]):  # names of markup make no file names
        file = folder / "results" / "made-v1" / f"{i}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result.to_json()))
    return built([], folder)
