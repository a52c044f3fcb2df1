"""N ranks compute what one computes: the same tasks, the same meta-gradient, the same scores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.ranks import on_ranks
from metabench.device import Device
from metabench.plugins import load
from metabench.records import Batches, Budget, Cell, Evaluation, Protocol, Spec, Workload
from metabench.settings import describe_settings, make
from metabench.worker.cell_run import build, share
from metabench.worker.evaluation import evaluate
from metabench.worker.training import train

TASKS = 7  # no number of ranks from 2 to 4 divides it
WAYS = Protocol(ways=3, shots=2, queries=2)
SMALL: dict[str, dict[str, Any]] = {"mlp": {"hidden": [8, 8]}, "conv4": {"width": 8}}
POINTS = Protocol(ways=1, shots=4, queries=4)


def trainable(dataset: str) -> list[str]:
    """Every installed algorithm that trains on this data set, so that a new one is covered here."""
    registry = load()
    kind = make(registry.find("dataset", dataset).cls).describe().kind
    test = POINTS if kind == "regression" else WAYS
    return [
        entry.name
        for entry in registry.entries("algorithm").values()
        if entry.plugin.distribution == "metabench"
        and entry.cls.unavailable() is None
        and kind in entry.cls.kinds
        and make(entry.cls).train_protocol(test) is not None
    ]


def gentle(algorithm: type[Any]) -> Any:
    """The algorithm with inner steps so small that no loss leaves the range of numbers, where it has them."""
    names = {option.name for option in describe_settings(algorithm)}
    return make(algorithm, {"inner_rate": 0.01} if "inner_rate" in names else {})


def meta_gradients(device: Device, algorithms: list[str], network: str, dataset: str) -> dict[str, Any]:
    """Per algorithm: the meta-gradient of one step as one array, and the losses of this rank's tasks."""
    registry = load()
    data = make(registry.find("dataset", dataset).cls)
    facts, source = data.describe(), data.load(device)
    test = POINTS if facts.kind == "regression" else WAYS
    gradients = {}
    for name in algorithms:
        algorithm = gentle(registry.find("algorithm", name).cls)
        train_protocol = algorithm.train_protocol(test)
        body = (
            make(registry.find("network", network).cls, SMALL[network]) if algorithm.needs_network else None
        )
        torch.manual_seed(0)
        learner = algorithm.build(Workload(facts, train_protocol, test, 10, TASKS, 0), body, device)
        mine = share(TASKS, device)
        if isinstance(train_protocol, Batches):
            batch: Any = source.batch(Batches(TASKS * 4, micro=4), mine, seed=0)
        else:
            batch = source.episodes("train", train_protocol, mine, seed=0)
        losses = learner.learn(batch, 0, 10)
        device.average_gradients(learner.parameters(), len(mine) / TASKS)
        flat = [p.grad.flatten() for p in learner.parameters() if p.grad is not None]
        gradients[name] = (torch.cat(flat).numpy(), losses.detach().tolist())
    return gradients


@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize(
    ("algorithms", "network", "dataset"),
    [(["maml", "reptile"], "mlp", "sinusoid"), (["maml", "protonet", "baseline"], "conv4", "glyphs")],
)
def test_meta_gradient_is_that_of_one_rank(
    algorithms: list[str], network: str, dataset: str, world_size: int
) -> None:
    check_meta_gradients(algorithms, network, dataset, world_size)


@pytest.mark.parametrize("dataset", ["sinusoid", "glyphs"])
def test_meta_gradient_of_every_algorithm_is_that_of_one_rank(dataset: str) -> None:
    algorithms = trainable(dataset)
    assert len(algorithms) >= 2

    check_meta_gradients(algorithms, "mlp", dataset, world_size=3)


def check_meta_gradients(algorithms: list[str], network: str, dataset: str, world_size: int) -> None:
    alone = meta_gradients(Device(dtype=torch.float64), algorithms, network, dataset)

    ranks = on_ranks(world_size, meta_gradients, algorithms, network, dataset)

    for name, (expected, losses) in alone.items():
        scale = np.abs(expected).max()
        assert scale > 0, f"{name}: no gradient to compare"
        for rank in ranks:
            np.testing.assert_allclose(
                rank[name][0] / scale, expected / scale, rtol=0, atol=1e-12, err_msg=name
            )
        together = [loss for rank in ranks for loss in rank[name][1]]
        np.testing.assert_allclose(together, losses, rtol=1e-12, err_msg=name)


TRAINED = [("maml", "sinusoid", "mse"), ("protonet", "glyphs", "nll"), ("simpleshot", "glyphs", "accuracy")]
"""SimpleShot trains on batches and computes the mean feature of meta-train before it is scored."""


def trained(device: Device) -> list[tuple[list[float], list[float]]]:
    """The test scores and the losses of fifty steps, with a validation on the way, for each of TRAINED."""
    registry, results = load(), []

    def make_component(kind: str, spec: Spec) -> Any:
        return make(registry.find(kind, spec.name).cls, spec.settings)

    for name, dataset, metric in TRAINED:
        test = POINTS if make_component("dataset", Spec(dataset)).describe().kind == "regression" else WAYS
        algorithm = gentle(registry.find("algorithm", name).cls)
        train_protocol, tasks = algorithm.train_protocol(test), TASKS
        if isinstance(train_protocol, Batches):
            tasks = TASKS * train_protocol.micro
            train_protocol = Batches(tasks, train_protocol.micro)
        cell = Cell(
            suite="parity", suite_version=1, algorithm=Spec(name, vars(algorithm)),
            network=Spec("mlp", SMALL["mlp"]), dataset=Spec(dataset), test=test, train=train_protocol,
            budget=Budget(50, tasks, validate_every=25, validation_tasks=5),
            evaluation=Evaluation(tasks=9, batch=2, metric=metric), backend=Spec("cpu"), seed=0, plugins={},
        )  # fmt: skip
        run = build(cell, make_component, device)
        train(run)
        results.append((list(evaluate(run).per_task), [loss for _, loss in run.training.losses]))
    return results


def test_scores_after_fifty_steps_are_those_of_one_rank_on_two_three_and_four() -> None:
    alone = trained(Device(dtype=torch.float64))
    assert all(len(set(scores)) > 1 for scores, _ in alone)

    for world_size in (2, 3, 4):
        for rank in on_ranks(world_size, trained):
            for (name, *_), (scores, losses), (wanted, wanted_losses) in zip(
                TRAINED, rank, alone, strict=True
            ):
                np.testing.assert_allclose(scores, wanted, rtol=1e-9, atol=1e-9, err_msg=name)
                np.testing.assert_allclose(losses, wanted_losses, rtol=1e-9, err_msg=name)


SUITE = """
name = "parity"
version = 1
[defaults]
budget = {{steps = 50, tasks = 3}}
evaluation = {{tasks = 9, batch = 2, metric = "{metric}"}}
[[cells]]
algorithm = "maml"
network = "{network}"
dataset = "{dataset}"
test = {{ways = {ways}, shots = 1, queries = 2}}
[cells.sweep]
backend = [
  {{name = "cpu", threads = 1, precision = "float64"}},
  {{name = "cpu-ranks", ranks = 2, precision = "float64", oversubscribe = true}},
]
"""


@pytest.mark.parametrize(
    ("network", "dataset", "ways", "metric"), [("mlp", "sinusoid", 1, "mse"), ("conv4", "glyphs", 3, "nll")]
)
def test_scores_of_the_command_on_two_ranks_are_those_of_one(
    network: str, dataset: str, ways: int, metric: str, tmp_path: Path
) -> None:
    suite = tmp_path / "parity.toml"
    suite.write_text(SUITE.format(network=network, dataset=dataset, ways=ways, metric=metric))
    command = [
        sys.executable,
        "-m",
        "metabench.cli",
        "run",
        str(suite),
        "--results",
        str(tmp_path),
        "--quiet",
    ]

    subprocess.run(command, check=True, timeout=240, cwd=tmp_path, capture_output=True)

    results = [json.loads(path.read_bytes()) for path in (tmp_path / "parity-v1").glob("*.json")]
    by_backend = {result["cell"]["backend"]["name"]: result for result in results}
    alone, together = by_backend["cpu"], by_backend["cpu-ranks"]
    assert together["environment"]["ranks"] == 2
    assert alone["scores"]["manifest"] == together["scores"]["manifest"]
    expected = alone["scores"]["per_task"]
    assert len(set(expected)) > 1
    np.testing.assert_allclose(together["scores"]["per_task"], expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(together["training"]["losses"], alone["training"]["losses"], rtol=1e-9)
