"""`metabench rescore` and `verify --deep`: scores made anew from stored predictions, by the real commands."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from helpers.shell import Shell, shell_environment
from metabench.cli import metabench
from metabench.publishing import verify
from metabench.records import Scores
from metabench.records.files import read_result, write_json
from metabench.results.predictions import Predictions, predictions_beside, read_predictions

SUITE = """
name = "kept"
version = 1
[[cells]]
algorithm = "protonet"
network = {name = "mlp", hidden = [8]}
dataset = "blobs"
test = {ways = 3, shots = 1, queries = 5}
budget = {steps = 2, tasks = 4}
[cells.evaluation]
tasks = 13
batch = 4
metrics = ["accuracy", {name = "ece", bins = 5}]
predictions = PREDICTIONS
[cells.sweep]
backend = BACKENDS
"""
RANKS = '[{name = "cpu", threads = 1}, {name = "cpu-ranks", ranks = 2, threads = 1}]'


@pytest.fixture(scope="module")
def results_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the results of one and of two ranks, with predictions."""
    shell = Shell(tmp_path_factory.mktemp("kept"), shell_environment())
    (shell.folder / "kept.toml").write_text(SUITE.replace("PREDICTIONS", "true").replace("BACKENDS", RANKS))
    shell.run("run", "kept.toml", "--quiet")
    return shell.folder / "results/local/kept-v1"


@pytest.fixture
def kept(results_folder: Path, tmp_path: Path) -> list[Path]:
    """A copy of these results, that of one rank first."""
    paths = (shutil.copytree(results_folder, tmp_path / results_folder.name)).glob("*.json")
    return sorted(paths, key=lambda path: read_result(path).cell.ranks)


def scores_of(path: Path) -> Scores:
    scores = read_result(path).scores
    assert scores is not None
    return scores


def rescore(*arguments: object) -> Result:
    return CliRunner().invoke(metabench, ["rescore", *map(str, arguments)], standalone_mode=False)


def problems(path: Path) -> list[str]:
    return [
        f.what for f in verify([path], deep=True).findings if f.check in ("predictions", "metrics", "seal")
    ]


def test_metrics_are_added_without_training_and_follow_from_the_predictions(kept: list[Path]) -> None:
    before = [(read_result(path), scores_of(path).further) for path in kept]

    done = rescore(*kept, "--metrics", "ece:bins=5,ece:bins=9,nll")

    assert done.return_value == 0, done.output
    for path, (old, run_metrics) in zip(kept, before, strict=True):
        new, scores = read_result(path), scores_of(path)
        assert list(scores.further) == ["ece:bins=5", "ece:bins=9", "nll"]
        assert scores.further["ece:bins=5"] == run_metrics["ece:bins=5"]  # of the run: left as it is
        assert [bool(metric.rescored) for metric in scores.further.values()] == [False, True, True]
        assert replace(new, scores=replace(scores, further=run_metrics)) == old
        assert problems(path) == []
    one_rank, two_ranks = (scores_of(path).further["nll"].per_task for path in kept)
    assert one_rank == pytest.approx(two_ranks, rel=1e-5)


def test_scores_that_the_predictions_do_not_give_are_found_and_end_a_rescoring(kept: list[Path]) -> None:
    path = kept[0]
    scores = scores_of(path)
    edited = replace(scores, per_task=(1.0 - scores.per_task[0], *scores.per_task[1:]))
    write_json(path, replace(read_result(path), scores=edited).to_json())

    assert any("accuracy does not follow from the predictions" in what for what in problems(path))
    done = rescore(path, "--metrics", "nll")
    assert done.return_value == 1
    assert "its predictions give other scores of 'accuracy' than it has" in done.output
    assert "nll" not in scores_of(path).further


def test_predictions_of_other_bytes_are_found(kept: list[Path]) -> None:
    path = kept[0]
    predictions = read_predictions(predictions_beside(path))
    tasks = [replace(task, prediction=task.prediction + np.float32(1)) for task in predictions.tasks]
    Predictions(predictions.cell, predictions.outputs, tasks).write(predictions_beside(path))

    assert any("another SHA-256" in what for what in problems(path))
    predictions_beside(path).unlink()
    assert problems(path) == ["they are not beside it: its scores could not be made anew"]


def test_metric_that_does_not_fit_and_result_without_predictions_are_refused_by_name(shell: Shell) -> None:
    text = SUITE.replace("PREDICTIONS", "false").replace("BACKENDS", '[{name = "cpu", threads = 1}]')
    (shell.folder / "kept.toml").write_text(text)
    shell.run("run", "kept.toml", "--quiet")
    (path,) = (shell.folder / "results/local/kept-v1").glob("*.json")

    done = rescore(path, "--metrics", "nll")

    assert done.return_value == 1
    assert "holds no predictions; `predictions = true` in a suite's evaluation keeps them" in done.output
    assert not predictions_beside(path).exists()
    assert json.loads(path.read_bytes())["predictions"] == ""
