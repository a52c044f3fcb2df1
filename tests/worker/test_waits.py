"""Training never makes the host wait for a GPU, but for the clock at the end of a block."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helpers.waits import Waits
from metabench import Budget, Cell, Evaluation, Protocol, Spec, UnevenProtocol, Workload
from metabench.plugins import load
from metabench.settings import make
from metabench.testing import pretend_device
from metabench.worker.cell_run import CellRun
from metabench.worker.clock import BlockClock
from metabench.worker.training import _take_step

REGISTRY = load()
CASES: dict[str, tuple[Any, ...]] = {
    "images": ("maml", {}, "conv4", {"width": 4}, "glyphs", Protocol(3, 1, 2)),
    "images of uneven tasks": (
        "protonet", {}, "conv4", {"width": 4}, "glyphs", UnevenProtocol(3, 2, 2, class_shots=(1, 2, 1)),
    ),
    "points, as images": ("maml", {}, "mlp", {}, "blobs", Protocol(3, 1, 2)),
    "sine waves": ("maml", {}, "mlp", {}, "sinusoid", Protocol(1, 5, 5)),
    "sums of sines": ("maml", {}, "mlp", {}, "harmonics", Protocol(1, 5, 5)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_host_waits_for_no_step(case: str) -> None:
    algorithm_name, algorithm_settings, network_name, network_settings, data, protocol = CASES[case]
    algorithm = make(REGISTRY.find("algorithm", algorithm_name).cls, algorithm_settings)
    network = make(REGISTRY.find("network", network_name).cls, network_settings)
    dataset = make(REGISTRY.find("dataset", data).cls)
    cell = Cell(
        suite="s", suite_version=1, algorithm=Spec(algorithm_name), network=Spec(network_name),
        dataset=Spec(data), test=protocol, train=protocol, budget=Budget(steps=50, tasks=4),
        evaluation=Evaluation(tasks=8), backend=Spec("cpu"), seed=0, plugins={}, group="g", label="",
    )  # fmt: skip
    with pretend_device() as device:
        workload = Workload(dataset.describe(), protocol, protocol, 50, 4)
        learner = algorithm.build(workload, network, device)
        run = CellRun(cell, learner, dataset.load(device), make(REGISTRY.find("metric", "mse").cls), device)
        clock = BlockClock(run)
        _take_step(run, 0, clock, learner.parameters(), 1.0)  # the first step sets things up
        with Waits() as seen:
            for step in (1, 2):
                _take_step(run, step, clock, learner.parameters(), 1.0)

    assert seen.waits == []
    assert seen.queued == (2 if "images" in case else 0)  # one copy of numbers a step


def test_a_wait_is_seen() -> None:
    with pretend_device() as device, Waits() as seen:
        there = torch.ones(3).to(device.torch)
        there[torch.tensor([0])]
        there[there > 0]
        there[0].item()
        torch.ones(3).to(device.torch, non_blocking=True)

    assert (len(seen.waits), seen.queued) == (4, 1)
