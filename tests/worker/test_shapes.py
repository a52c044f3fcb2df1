"""Training and scoring on tasks of different shapes: grouped by shape, the same on any number of ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from helpers.ranks import on_ranks
from helpers.shell import ROOT
from metabench import Batches, Budget, Cell, Device, Evaluation, Protocol, Spec, VariedProtocol
from metabench.data.order import draw_episodes
from metabench.data.shapes import shape_of
from metabench.plugins import load
from metabench.settings import make
from metabench.suite import read
from metabench.worker.cell_run import CellRun, build, draw, learn, share, units
from metabench.worker.evaluation import evaluate
from metabench.worker.training import train

VARIED = VariedProtocol(5, 3, 3, least_ways=2, least_queries=2, sampling="uneven")
RULE = VariedProtocol(5, 10, 10, least_ways=2, least_queries=10, sampling="meta-dataset")
ALGORITHMS = ["protonet", "protomaml", "simpleshot", "baseline", "baseline++", "r2d2", "matchingnet",
              "relationnet", "nearest-neighbour"]  # fmt: skip
FEW = {"r2d2": {"train_ways": 0}, "baseline": {"head_steps": 5}, "baseline++": {"head_steps": 5}}


def run_of(name: str, device: Device, test: Protocol = VARIED) -> CellRun:
    registry = load()

    def make_component(kind: str, spec: Spec) -> Any:
        return make(registry.find(kind, spec.name).cls, spec.settings)

    algorithm = make_component("algorithm", Spec(name, FEW.get(name, {})))
    protocol, tasks = algorithm.train_protocol(test), 6
    if isinstance(protocol, Batches):
        protocol, tasks = Batches(96, 16), 96
    network = Spec("mlp", {"hidden": [8], "batch_norm": True}) if algorithm.needs_network else None
    cell = Cell(
        suite="shapes", suite_version=1, algorithm=Spec(name, vars(algorithm)), network=network,
        dataset=Spec("glyphs"), test=test, train=protocol,
        budget=Budget(4 if protocol is not None else 0, tasks, validate_every=2, validation_tasks=4),
        evaluation=Evaluation(tasks=9, batch=4, metric="accuracy", latency_tasks=2), backend=Spec("cpu"),
        seed=0, plugins={},
    )  # fmt: skip
    return build(cell, make_component, device)


def outcome(device: Device) -> dict[str, tuple[list[float], list[list[float]], list[float]]]:
    """Test scores, the weights, and the mean gradient of a step, of each algorithm."""
    outcomes = {}
    for name in ALGORITHMS:
        run = run_of(name, device)
        gradient: list[float] = []
        if run.cell.trains:
            learn(run.learner, draw(run, 0), 0, 4)
            weight = len(share(units(run.cell), device)) / units(run.cell)
            device.average_gradients(run.learner.parameters(), weight)
            gradient = torch.cat([p.grad.flatten() for p in run.learner.parameters()]).tolist()  # type: ignore[union-attr]
        train(run)
        scores = list(evaluate(run).per_task)
        outcomes[name] = scores, [p.flatten().tolist() for p in run.learner.parameters()], gradient
    return outcomes


@pytest.mark.slow
def test_ranks_and_one_process_agree_on_tasks_of_different_shapes() -> None:
    expected = outcome(Device(dtype=torch.float64))

    for rank in on_ranks(2, outcome):
        for name, (scores, weights, gradient) in rank.items():
            np.testing.assert_allclose(gradient, expected[name][2], rtol=1e-9, atol=1e-12, err_msg=name)
            for actual, wanted in zip(weights, expected[name][1], strict=True):
                np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-6, err_msg=name)
            np.testing.assert_allclose(scores, expected[name][0], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("name", ["protonet", "protomaml"])
def test_the_gradient_of_a_step_is_the_mean_over_its_tasks_one_at_a_time(name: str) -> None:
    run = run_of(name, Device(dtype=torch.float64))
    batches = draw(run, 1)
    assert len(batches) > 1
    learner, source = run.learner, run.source

    losses = learn(learner, batches, 1, 4)

    together = [p.grad.clone() for p in learner.parameters()]  # type: ignore[union-attr]
    alone = [torch.zeros_like(p) for p in learner.parameters()]
    by_task = {}
    for index in range(6, 12):
        shape = shape_of(source, "train", VARIED, index, 0)
        (by_task[index],) = learner.learn(draw_episodes(source, "train", shape, [index], 0), 1, 4).tolist()
        for total, parameter in zip(alone, learner.parameters(), strict=True):
            total += parameter.grad / 6
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    order = [int(index) for batch in batches for index in batch.index]  # type: ignore[union-attr]
    np.testing.assert_allclose(losses.tolist(), [by_task[index] for index in order], rtol=1e-9)


@pytest.mark.parametrize("test", [VARIED, RULE], ids=["uneven", "meta-dataset"])
def test_scores_are_in_the_order_of_the_tasks_whatever_their_shapes(test: Protocol) -> None:
    run = run_of("nearest-neighbour", Device(dtype=torch.float64), test)

    scores = evaluate(run)

    assert len(scores.adapt_tasks) == 3
    for index, score in enumerate(scores.per_task):
        shape = shape_of(run.source, "test", test, index, 2026)
        task = draw_episodes(run.source, "test", shape, [index], 2026)
        prediction = run.learner.predict(run.learner.adapt(task.support), task.query.x)
        assert prediction.shape[2] == shape.ways
        right = (prediction.argmax(2) == task.query.y).double().mean()
        assert float(right) == pytest.approx(score)


def test_the_suite_of_mixed_shapes_trains_on_a_small_budget() -> None:
    suite = read(load(), str(ROOT / "suites" / "mixed-shapes.toml"))
    names = {cell.algorithm.name for cell in suite.cells}
    assert names == {"nearest-neighbour", "protonet", "protomaml", "simpleshot"}
    registry = load()

    def make_component(kind: str, spec: Spec) -> Any:
        return make(registry.find(kind, spec.name).cls, spec.settings)

    for cell in suite.cells:
        if cell.seed:
            continue
        train_protocol = Batches(16, 16) if isinstance(cell.train, Batches) else cell.train
        tasks = 16 if isinstance(cell.train, Batches) else 2
        small = replace(
            cell,
            dataset=Spec("glyphs"),
            train=train_protocol,
            budget=Budget(min(cell.budget.steps, 2), tasks),
            network=Spec("conv4", {"width": 4}) if cell.network else None,
            evaluation=Evaluation(tasks=4, metric="accuracy"),
        )
        run = build(small, make_component, Device())
        train(run)
        scores = evaluate(run)
        assert all(0 <= score <= 1 for score in scores.per_task)
        assert Cell.from_json(cell.to_json()) == cell
