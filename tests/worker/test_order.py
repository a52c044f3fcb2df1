"""The order of a task's examples tells nothing, and scores are what they were in the manifest's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.shell import ROOT
from metabench import Cell, Episodes, Examples, Protocol, Result, Source, Spec
from metabench.data.order import draw_episodes
from metabench.device import Device
from metabench.learning import UntrainedLearner
from metabench.plugins import load
from metabench.results.store import read_result
from metabench.settings import make
from metabench.worker.cell_run import build
from metabench.worker.evaluation import evaluate

REGISTRY = load()
ROUNDING = {"scratch": 2e-2}
"""What another order of sums may change of a score, relatively: the steps of Adam amplify it."""
PROTOCOL = Protocol(5, 1, 5)
TASKS = 200
HALF_WIDTH = 4 * 0.4 / (TASKS * 25) ** 0.5  # four standard errors of a share of 20 %


def make_component(kind: str, spec: Spec) -> Any:
    return make(REGISTRY.find(kind, spec.name).cls, spec.settings)


def source(dataset: str) -> Source:
    component = make_component("dataset", Spec(dataset))
    if component.missing() is not None:
        pytest.skip(str(component.missing()))
    loaded: Source = component.load(Device())
    return loaded


class Place(UntrainedLearner):
    """Answers by the place of a query alone."""

    def adapt(self, support: Examples, steps: int | None = None) -> Any:
        return None

    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        ways = torch.arange(query_x.shape[1]) % PROTOCOL.ways
        return F.one_hot(ways, PROTOCOL.ways).float().expand(len(query_x), -1, -1)


class PlaceTable(Place):
    """Answers by a table of places and ways, counted on meta-train."""

    def __init__(self, episodes: Episodes) -> None:
        self.counts = F.one_hot(episodes.query.y, PROTOCOL.ways).sum(0).float()

    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        return self.counts.expand(len(query_x), -1, -1)


class Memory(Place):
    """Remembers by its pixels the answer that each query had where it was first asked."""

    def __init__(self) -> None:
        self.answers: dict[bytes, Tensor] = {}

    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        first = super().predict(state, query_x)
        return torch.stack(
            [
                torch.stack(
                    [self.answers.setdefault(x.numpy().tobytes(), y) for x, y in zip(*pair, strict=True)]
                )
                for pair in zip(query_x, first, strict=True)
            ]
        )

    def recalled(self, x: Tensor, answer: Tensor) -> Tensor:
        return self.answers.setdefault(x.numpy().tobytes(), answer)


def learners(drawn_from: Source) -> Sequence[UntrainedLearner]:
    train = draw_episodes(drawn_from, "train", PROTOCOL, range(500), 0)
    return [Place(), PlaceTable(train), Memory()]


@pytest.mark.parametrize("dataset", ["glyphs", "blobs", "omniglot-small"])
def test_who_answers_by_place_scores_chance(
    dataset: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dataset == "omniglot-small":
        monkeypatch.setenv("METABENCH_DATA", str(request.getfixturevalue("real_data")))
    drawn_from = source(dataset)
    test = draw_episodes(drawn_from, "test", PROTOCOL, range(TASKS), 2026)
    for learner in learners(drawn_from):
        answers = learner.predict(learner.adapt(test.support), test.query.x).argmax(2)
        share = float((answers == test.query.y).double().mean())
        assert abs(share - 0.2) < HALF_WIDTH, type(learner).__name__


def test_who_answers_by_place_would_score_all_in_the_order_of_the_source() -> None:
    test = source("glyphs").episodes("test", PROTOCOL, range(TASKS), 2026)
    answers = Place().predict(None, test.query.x).argmax(2)
    assert torch.equal(answers, test.query.y)  # what the shuffle is for


def stored() -> list[Path]:
    """Published results without training, one of each algorithm and data set that needs no download."""
    chosen: dict[tuple[str, str], Path] = {}
    for path in sorted((ROOT / "results").glob("*-v*/*/*.json")):
        cell = read_result(path).cell
        here = cell.dataset.name in ("glyphs", "sinusoid") and cell.backend.name == "cpu"
        if here and (cell.train is None or cell.budget.steps == 0):
            chosen.setdefault((cell.algorithm.name, cell.dataset.name), path)
    return list(chosen.values())


STATISTICS = {"together": "queries", "joined": "joined", "alone": "support"}
"""What these results call `queries`, in the words of today's setting."""


def short(result: Result, tasks: int) -> Cell:
    cell = result.cell
    settings = dict(cell.algorithm.settings)
    if "queries" in settings:
        settings["statistics"] = STATISTICS[settings.pop("queries")]
    algorithm = Spec(cell.algorithm.name, settings)
    evaluation = replace(cell.evaluation, tasks=tasks, curve=(), latency_tasks=0)
    return replace(cell, algorithm=algorithm, evaluation=evaluation)


@pytest.mark.parametrize("path", stored(), ids=lambda path: path.stem)
def test_scores_of_stored_tasks_are_what_they_were(path: Path) -> None:
    result = read_result(path)
    assert result.scores is not None
    run = build(short(result, 50), make_component, Device())
    scores = evaluate(run).per_task
    rounding = ROUNDING.get(result.cell.algorithm.name, 1e-5)
    assert np.allclose(scores, result.scores.per_task[:50], rtol=rounding, atol=0.0)
