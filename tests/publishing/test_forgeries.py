"""Sealed edits of published results: `verify` finds each that contradicts the file, its suite, its metric or
its data set, and those that no check can know stay silent."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from helpers.results import made_result, store
from helpers.shell import ROOT
from helpers.submissions import copied_board, forged, honest_result, made_cell
from metabench.plugins import load
from metabench.publishing import InstalledSuite, verify
from metabench.publishing.findings import Finding
from metabench.publishing.parameters import count_parameters
from metabench.records.files import read_result
from metabench.records.identity import canonical_json
from metabench.records.task_classes import TaskClasses
from metabench.suite import read

BOARD, RACE, WAVES = "glyphs-board-v1", "time-to-accuracy-v1", "sine-v2"
ONE, ALL = "maml-*-s0-*", "maml-*"
Edit = Callable[[dict[str, Any]], Any]


def put(*path_and_value: Any) -> Edit:
    """An edit that puts a value, or a function of the old one, at a path of the document."""
    *path, value = path_and_value

    def edit(document: dict[str, Any]) -> None:
        part: Any = document
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value(part[path[-1]]) if callable(value) else value

    return edit


def in_all(*path_and_value: Any) -> Edit:
    """The same for every member of a list: `in_all("training", "blocks", "seconds", 0.0)`."""
    *path, name, value = path_and_value

    def edit(document: dict[str, Any]) -> None:
        part: Any = document
        for key in path:
            part = part[key]
        for member in part:
            member[name] = value(member[name]) if callable(value) else value

    return edit


def both(*edits: Edit) -> Edit:
    return lambda document: [edit(document) for edit in edits]


def steps_times_three(document: dict[str, Any]) -> None:
    training = document["training"]
    training["steps"] *= 3
    for block in (*training["warmup"], *training["blocks"]):
        block["steps"] *= 3


def half_of_the_blocks(document: dict[str, Any]) -> None:
    training = document["training"]
    training["blocks"] = training["blocks"][: len(training["blocks"]) // 2]
    blocks = (*training["warmup"], *training["blocks"])
    training["steps"] = sum(block["steps"] for block in blocks)
    training["seconds"] = sum(block["seconds"] for block in blocks)
    training["tasks"] = training["steps"] * document["cell"]["budget"]["tasks"]
    kept = [v for v in training["validations"] if v["step"] <= training["steps"]]
    training["validations"], training["best_step"] = kept, kept[-1]["step"] if kept else None


def times_over(factor: float) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        training, scores = document["training"], document["scores"]
        training["seconds"] /= factor
        for block in (*training["warmup"], *training["blocks"]):
            for name in ("seconds", "sampling", "learning", "updating", "communication"):
                block[name] /= factor
        for validation in training["validations"]:
            validation["train_seconds"] /= factor
        if training["target_seconds"]:
            training["target_seconds"] /= factor
        scores["seconds"] /= factor
        scores["predict_seconds"] /= factor
        scores["adapt_seconds"] = [seconds / factor for seconds in scores["adapt_seconds"]]

    return edit


def failed(document: dict[str, Any]) -> None:
    document["cell"]["expect"] = ["failed"]
    document.update(status="failed", scores=None, mean=None, reason="x")


CLASSES = json.loads(canonical_json(TaskClasses.of([range(5)] * 600)))
"""The same five classes in every task."""

FOUND: list[tuple[str, str, str, Edit, str]] = [
    # name, suite, files, edit, check that finds it
    ("three times the steps", BOARD, ALL, steps_times_three, "training"),
    ("half of the blocks", BOARD, ALL, half_of_the_blocks, "training"),
    ("tasks", BOARD, ONE, put("training", "tasks", 16000), "training"),
    ("budget", BOARD, ALL, put("cell", "budget", "steps", 20), "complete"),
    ("seconds", BOARD, ALL, put("training", "seconds", lambda s: s / 3), "clock"),
    ("time of the target", RACE, ALL, put("training", "target_seconds", lambda s: s / 10), "target"),
    ("a target that was missed", RACE, "anil-*", both(
        put("training", "target_step", 10), put("training", "target_seconds", 0.5),
        put("training", "ended_by", "target"),
    ), "target"),
    ("a target that was missed, at a validation", RACE, "anil-*", lambda t: t["training"].update(
        target_step=t["training"]["validations"][0]["step"],
        target_seconds=t["training"]["validations"][0]["train_seconds"],
    ), "target"),
    ("seconds beyond the budget", RACE, "anil-*", times_over(0.5), "clock"),
    ("processor", BOARD, ONE, put("environment", "processor", "Pentium II"), "environment"),
    ("cores", BOARD, ONE, put("environment", "cores", 1), "environment"),
    ("torch", BOARD, ONE, put("environment", "packages", "torch", "0.4.1"), "environment"),
    ("python", BOARD, ONE, put("environment", "python", "2.7"), "environment"),
    ("condition of the machine", BOARD, "*", lambda t: (t["environment"].pop("before"), t.update(notes=[])),
     "environment"),
    ("backend of the environment", BOARD, ONE, put("environment", "backend", "cuda"), "environment"),
    ("number format", BOARD, ONE, put("environment", "dtype", "float16"), "environment"),
    ("threads of the environment", BOARD, ONE, put("environment", "threads", 64), "environment"),
    ("ranks of the environment", BOARD, ONE, put("environment", "ranks", 64), "environment"),
    ("label", BOARD, ALL, put("cell", "label", "protonet (ours)"), "suite"),
    ("group", BOARD, "proto*", put("cell", "group", "scaling"), "suite"),
    ("an expected failure", BOARD, "protonet-*", failed, "suite"),
    ("distribution", BOARD, ONE, put("cell", "plugins", "algorithm", "evil 1.0"), "plugins"),
    ("direction of the metric", BOARD, ALL, put("scores", "higher_is_better", False), "metric"),
    ("direction of the metric in all files", BOARD, "*", put("scores", "higher_is_better", False), "metric"),
    ("unit", BOARD, ALL, put("scores", "unit", "x"), "metric"),
    ("metric", BOARD, ALL, put("scores", "metric", "accuracy2"), "metric"),
    ("negative errors", WAVES, ALL, put("scores", "per_task", lambda s: [-abs(x) for x in s]), "scores"),
    ("share beyond 1", BOARD, ONE, put("scores", "per_task", 0, 1.08), "scores"),
    ("curve beyond the bounds", WAVES, ONE, put("scores", "curve", "5", lambda s: [-x for x in s]), "scores"),
    ("a step of the curve", WAVES, ONE, lambda t: t["scores"]["curve"].pop("5"), "curve"),
    ("half of a curve", WAVES, ONE, put("scores", "curve", "5", lambda s: s[:500]), "curve"),
    ("manifest", BOARD, ONE, put("scores", "manifest", "a" * 64), "manifest"),
    ("manifest of all files", BOARD, "*", put("scores", "manifest", "a" * 64), "manifest"),
    ("classes of the tasks", BOARD, ONE, put("scores", "classes", CLASSES), "classes"),
    ("text of the suite in all files", BOARD, "*", put("environment", "suite_digest", "b" * 64),
     "suite digest"),
    ("validations of 0.99", BOARD, ALL, in_all("training", "validations", "mean", 0.99), "best step"),
    ("best step without validation", BOARD, ALL, put("training", "best_step", 7), "best step"),
    ("best step that is not the best", BOARD, ALL, put("training", "best_step", 50), "best step"),
    ("state", BOARD, ALL, put("scores", "state", "last"), "best step"),
    ("validations of 7", BOARD, ALL, in_all("training", "validations", "mean", 7), "validation"),
    ("a mean that no answers give", BOARD, ALL, put("training", "validations", 0, "mean", 0.50021),
     "validation"),
    ("wide validations", BOARD, ALL, in_all("training", "validations", "half_width", 1e9), "validation"),
    ("wide validations of errors", WAVES, ALL, in_all("training", "validations", "half_width", 1e9),
     "validation"),
    ("a validation left out", BOARD, ALL, lambda t: t["training"]["validations"].pop(0), "validation"),
    ("time of a validation", BOARD, ALL, put("training", "validations", 0, "train_seconds", 0.1), "clock"),
    ("losses", BOARD, ALL, put("training", "losses", []), "losses"),
    ("training", BOARD, ALL, put("training", None), "training"),
    ("scores", BOARD, ONE, both(put("scores", None), put("mean", None)), "scores"),
    ("started in two years", BOARD, ALL, put("started", "2199-12-01T00:00:00+00:00"), "clock"),
    ("wall time", BOARD, ALL, put("wall_seconds", 1e10), "clock"),
    ("signal", BOARD, ALL, both(put("exit_code", -11), put("signal", "SIGSEGV")), "outcome"),
    ("adaptation in one batch", BOARD, ALL, both(
        put("scores", "adapt_seconds", [1e-9]), put("scores", "adapt_tasks", [600.0])), "adaptation"),
    ("batches of adaptation", BOARD, ALL, put("scores", "adapt_tasks", lambda s: s[:-1]), "adaptation"),
    ("latencies", BOARD, ALL, put("scores", "latency_seconds", [1e-6] * 10), "latency"),
    ("blocks of no time", BOARD, ALL, in_all("training", "blocks", "seconds", 0.0), "clock"),
    ("parts of blocks", BOARD, ALL, in_all("training", "blocks", "learning", 1e6), "clock"),
    ("negative memory", BOARD, ONE, put("memory", "host", -1.0), "figures"),
    ("no parameters", BOARD, ALL, put("parameters", 0), "figures"),
    ("a field", BOARD, ONE, lambda t: t.update(remark="independently audited"), "schema"),
    ("seed", BOARD, ONE, put("cell", "seed", 7), "complete"),
    ("evaluation's seed in all files", BOARD, "*", put("cell", "evaluation", "seed", 1), "complete"),
    ("queries", BOARD, ALL, put("cell", "test", "queries", 1), "complete"),
    ("threads of the cell", BOARD, ALL, put("cell", "backend", "settings", "threads", 64), "complete"),
    ("another machine", BOARD, ONE, put("cell", "backend", "settings", "rdzv_endpoint", "host:1"),
     "connection"),
]  # fmt: skip

SILENT: list[tuple[str, str, str, Edit]] = [
    # name, suite, files, edit: no file, suite, metric or data set says otherwise
    ("one score", BOARD, ONE, put("scores", "per_task", 0, 1.0)),
    ("three more answers in all tasks", BOARD, ALL, put("scores", "per_task", lambda s: [
        min(1.0, round(x * 25 + 3) / 25) for x in s])),
    ("all times over 3", BOARD, ALL, times_over(3)),
    ("name of the machine", BOARD, "*", put("environment", "machine", "nvidia-b300")),
    ("version of a plugin", BOARD, ALL, put("cell", "plugins", "algorithm", "metabench 9.9")),
    ("claims of transduction", BOARD, ALL, both(
        put("scores", "transductive", False), put("scores", "transductive_found", False))),
    ("git", BOARD, "*", put("environment", "git", "0000000")),
    ("operations", BOARD, ALL, put("cost", "flops_per_step", 1e6)),
    ("memory", BOARD, ALL, put("memory", "host", 1e6)),
    ("started 1970", BOARD, ALL, put("started", "1970-01-01T00:00:00+00:00")),
    ("log", BOARD, ONE, put("log_tail", ["<script>"])),
    ("a field of the environment", BOARD, ONE, put("environment", "audited_by", "NIST")),
]  # fmt: skip


@cache
def published_suite(name: str) -> InstalledSuite:
    """The suite of a published board, in the version of its results: what is installed may be newer."""
    results = [read_result(path) for path in (ROOT / "results" / name).glob("*/*.json")]
    return InstalledSuite([result.cell for result in results], str(results[0].environment["suite_digest"]))


def errors_of(board: Path) -> list[Finding]:
    return verify([board], {board.name: published_suite(board.name)}, complete=True).errors


@pytest.mark.parametrize(
    ("suite", "files", "edit", "check"), [case[1:] for case in FOUND], ids=[case[0] for case in FOUND]
)
def test_an_edit_that_contradicts_what_is_known_is_found(
    suite: str, files: str, edit: Edit, check: str, tmp_path: Path
) -> None:
    board = copied_board(suite, tmp_path)
    edited = [forged(path, edit) for path in sorted(board.glob(f"*/{files}.json"))]

    errors = errors_of(board)

    assert edited
    assert check in {finding.check for finding in errors}, errors
    assert "seal" not in {finding.check for finding in errors}


@pytest.mark.parametrize(
    ("suite", "files", "edit"), [case[1:] for case in SILENT], ids=[case[0] for case in SILENT]
)
def test_an_edit_that_nothing_contradicts_stays_silent(
    suite: str, files: str, edit: Edit, tmp_path: Path
) -> None:
    board = copied_board(suite, tmp_path)
    edited = [forged(path, edit) for path in sorted(board.glob(f"*/{files}.json"))]

    assert edited
    assert errors_of(board) == []


@pytest.mark.parametrize("by", [0.0, 1e-9, 1e-5], ids=["equal", "a digit", "some digits"])
@pytest.mark.parametrize("scores", ["equal", "one changed"])
def test_a_seed_copied_as_another_is_found(by: float, scores: str, tmp_path: Path) -> None:
    board = copied_board(BOARD, tmp_path)
    (first,), (second,) = (list(board.glob(f"*/maml-*-s{seed}-*.json")) for seed in (0, 1))
    document = copy.deepcopy(json.loads(first.read_text()))
    second.write_text(json.dumps(document))

    def retell(copied: dict[str, Any]) -> None:
        copied["cell"]["seed"] = 1
        copied["training"]["losses"] = [
            [step, loss * (1 + by)] for step, loss in copied["training"]["losses"]
        ]
        if scores == "one changed":
            copied["scores"]["per_task"][0] = 1.0

    forged(second, retell)

    assert "seeds" in {finding.check for finding in errors_of(board)}


def test_a_key_that_is_there_twice_is_found(tmp_path: Path) -> None:
    board = copied_board(BOARD, tmp_path)
    path = next(board.glob(f"*/{ONE}.json"))
    path.write_text('{"mean":0.999,' + path.read_text()[1:])

    assert any("the key 'mean' is there twice" in finding.what for finding in errors_of(board))


def test_a_removed_cell_is_found_unless_the_folder_says_so(tmp_path: Path) -> None:
    board = copied_board(BOARD, tmp_path)
    removed = list(board.glob("*/scratch-*.json"))
    for path in removed:
        path.unlink()

    assert {finding.check for finding in errors_of(board)} == {"complete"}
    assert not verify([board]).errors  # the seeds of the other cells do not tell
    (removed[0].parent / "partial.txt").write_text("three cells")
    assert errors_of(board) == []


def test_a_number_of_parameters_is_counted_anew(tmp_path: Path) -> None:
    registry = load()
    cells = {cell.algorithm.name: cell for cell in read(registry, "quick").cells}
    count = count_parameters(registry, cells["maml"])
    stored = store(
        tmp_path,
        [
            made_result(cells["maml"], parameters=count // 100),
            made_result(cells["protonet"], parameters=count_parameters(registry, cells["protonet"])),
            honest_result(made_cell(), parameters=7),
        ],
    )

    assert not [finding for finding in verify(stored).findings if finding.check == "parameters"]
    findings = [finding for finding in verify(stored, deep=True).findings if finding.check == "parameters"]

    assert [(finding.file, finding.serious) for finding in findings] == [
        (str(stored[0]), True),
        (str(stored[2]), False),  # its data set is not installed
    ]
    assert f"says {count // 100:,} parameters, its learner has {count:,} here" in findings[0].what
    assert "made-images" in findings[1].what
