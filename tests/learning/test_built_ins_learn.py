"""Every algorithm that trains learns: beyond all floors by more than both 95 % intervals, on real input.

Classification is on letters of unseen scripts (glyphs, 5-way 1-shot), regression on sine waves. Each is
trained by the loop as in a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch

from metabench import (
    Algorithm,
    Batches,
    Budget,
    Cell,
    Dataset,
    Evaluation,
    Metric,
    Protocol,
    Source,
    Spec,
    Workload,
)
from metabench.device import Device
from metabench.plugins import load
from metabench.settings import make
from metabench.stats import Estimate, estimate
from metabench.worker import evaluation, training
from metabench.worker.cell_run import CellRun

REGISTRY = load()
LETTERS = Protocol(5, 1, 5)


@dataclass(frozen=True)
class Problem:
    """What is learned: a data set with its protocol, metric and number of test tasks."""

    dataset: str
    protocol: Protocol
    metric: str
    test_tasks: int


SINE = Problem("sinusoid", Protocol(1, 10, 10), "mse", 1000)
GLYPHS = Problem("glyphs", LETTERS, "accuracy", 200)
MLP = Spec("mlp")
CONV = Spec("conv4", {"width": 16})


@dataclass(frozen=True)
class Trial:
    """What an algorithm learns, with which network, budget and settings."""

    problem: Problem
    network: Spec
    steps: int
    tasks: int
    settings: Mapping[str, Any] = field(default_factory=dict)


INNER = {"inner_rate": 0.01, "rate": 0.003}
TRIALS = {
    "maml": Trial(SINE, MLP, 800, 25, INNER),
    "anil": Trial(SINE, MLP, 1000, 25, INNER),
    "boil": Trial(SINE, MLP, 800, 25, INNER),
    "metasgd": Trial(SINE, MLP, 800, 25, INNER),
    "reptile": Trial(SINE, MLP, 1000, 25),
    "maml++": Trial(SINE, MLP, 1000, 25, {**INNER, "steps": 2}),
    "imaml": Trial(GLYPHS, CONV, 200, 8, {"rate": 0.005}),
    "metalstm": Trial(
        SINE, Spec("mlp", {"hidden": (20, 20)}), 1000, 16, {"inner_rate": 0.02, "rate": 0.01, "steps": 3}
    ),
    "cnp": Trial(SINE, MLP, 800, 25),
    "protomaml": Trial(GLYPHS, CONV, 100, 4, {"rate": 0.005}),
    "protonet": Trial(GLYPHS, CONV, 150, 4, {"rate": 0.005}),
    "matchingnet": Trial(GLYPHS, CONV, 150, 4, {"rate": 0.005}),
    "relationnet": Trial(GLYPHS, CONV, 200, 4, {"rate": 0.005}),
    "r2d2": Trial(GLYPHS, CONV, 60, 2),
    "simpleshot": Trial(GLYPHS, CONV, 200, 64, {"rate": 0.005}),
    "baseline": Trial(GLYPHS, CONV, 200, 64, {"rate": 0.005}),
    "baseline++": Trial(GLYPHS, CONV, 500, 64, {"rate": 0.005}),
}
ELSEWHERE = {"in-context"}  # trains on tables: tests/plugins/algorithms/test_in_context.py
SLOW = {"maml++", "imaml", "metalstm"}  # 10 to 30 s each


def component(kind: str, spec: Spec) -> Any:
    return make(REGISTRY.find(kind, spec.name).cls, spec.settings)


def trainable() -> list[str]:
    """The algorithms of the registry that train, those over learn2learn left out."""
    names = [name for name in REGISTRY.names("algorithm") if not name.startswith("l2l-")]
    return [n for n in names if component("algorithm", Spec(n)).train_protocol(LETTERS) is not None]


@cache
def dataset(name: str) -> tuple[Dataset, Source]:
    data: Dataset = component("dataset", Spec(name))
    return data, data.load(Device())


def scored(algorithm: Spec, trial: Trial, *, trained: bool) -> Estimate:
    """The mean score on test tasks, with its interval, after training in the loop or without."""
    problem, budget = trial.problem, Budget(trial.steps if trained else 0, trial.tasks)
    built: Algorithm = component("algorithm", algorithm)
    train = built.train_protocol(problem.protocol)
    if isinstance(train, Batches):
        train = Batches(budget.tasks, train.micro)
    cell = Cell(
        "learning", 1, algorithm, trial.network, Spec(problem.dataset), problem.protocol, train, budget,
        Evaluation(tasks=problem.test_tasks, batch=50, metric=problem.metric), Spec("cpu"), 0, {},
    )  # fmt: skip
    data, source = dataset(problem.dataset)
    workload = Workload(data.describe(), train, problem.protocol, budget.steps, budget.tasks, cell.seed)
    network = component("network", trial.network)
    with torch.random.fork_rng():
        torch.manual_seed(cell.seed)
        learner = built.build(workload, network, Device())
    metric: Metric = component("metric", Spec(problem.metric))
    run = CellRun(cell, learner, source, metric, Device())
    training.train(run)
    return estimate([evaluation.evaluate(run).per_task])


@cache
def floor(name: str, problem: Problem, network: str) -> Estimate:
    """What an algorithm that trains nothing reaches; network: the name of a trial that has the network."""
    trial = Trial(problem, TRIALS[network].network, 0, 1)
    return scored(Spec(name), trial, trained=False)


def test_every_algorithm_that_trains_has_a_trial() -> None:
    assert sorted(trainable()) == sorted([*TRIALS, *ELSEWHERE])


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in TRIALS]
)
def test_it_learns(name: str) -> None:
    trial = TRIALS[name]
    algorithm = Spec(name, trial.settings)
    same = next(n for n, other in TRIALS.items() if other.network == trial.network)
    floors = {n: floor(n, trial.problem, same) for n in ("scratch", "nearest-neighbour")}
    floors["untrained"] = scored(algorithm, trial, trained=False)

    learned = scored(algorithm, trial, trained=True)

    sign = -1 if trial.problem.metric == "mse" else 1
    reached = float(sign * learned.mean - learned.half_width())
    for other, at in floors.items():
        highest = float(sign * at.mean + at.half_width())
        assert reached > highest, f"{name}: {learned.mean:.3f} against {at.mean:.3f} of {other}"
