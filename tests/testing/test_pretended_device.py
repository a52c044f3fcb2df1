"""On a device that only pretends to be one: nothing strays to the CPU, and the numbers are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from metabench import Batches, Budget, Cell, Dataset, Evaluation, Invalid, Protocol, Spec, Workload
from metabench.device import Device
from metabench.plugins import load
from metabench.settings import make
from metabench.testing import CLASSIFICATION, REGRESSION, TinyClasses, TinyCurves, TinyNetwork, pretend_device
from metabench.testing.contract_error import Subject
from metabench.testing.learner_bench import Bench
from metabench.testing.pretended_device import StrayError
from metabench.worker import evaluation, training
from metabench.worker.cell_run import CellRun

REGISTRY = load()
SMALL: Mapping[str, Mapping[str, Any]] = {"scratch": {"steps": 4}, "baseline": {"head_steps": 5},
    "baseline++": {"head_steps": 5}, "callable": {"path": "helpers.nearest:nearest"}}  # fmt: skip


@pytest.mark.parametrize("name", REGISTRY.names("algorithm"))
def test_learner_goes_its_round_on_another_device(name: str) -> None:
    cls = REGISTRY.find("algorithm", name).cls
    if cls.unavailable() is not None:
        pytest.skip(str(cls.unavailable()))
    algorithm = make(cls, SMALL.get(name))
    for kind in sorted(algorithm.kinds):
        data, protocol = (
            (TinyClasses(), CLASSIFICATION) if kind == "classification" else (TinyCurves(), REGRESSION)
        )
        for network in [TinyNetwork(), TinyNetwork(batch_norm=True)] if algorithm.needs_network else [None]:
            bench = Bench(Subject(name), algorithm, network, data, protocol, Device(), 1e-8)
            with pretend_device() as device:
                bench.run_all(device)


@pytest.mark.parametrize("name", REGISTRY.names("dataset"))
def test_dataset_draws_on_another_device(name: str) -> None:
    cls = REGISTRY.find("dataset", name).cls
    if name in ("imagefolder", "table"):
        pytest.skip("needs a path; tests/plugins/test_contracts.py makes one")
    dataset: Dataset = make(cls)
    if dataset.missing() is not None:
        pytest.skip(str(dataset.missing()))
    ways = 1 if dataset.describe().kind == "regression" else 3
    with pretend_device() as device:
        source = dataset.load(device)
        protocol = Protocol(20, 1, 1) if name == "lake" else Protocol(ways, 1, 2)
        drawn = source.episodes("test", protocol, range(3), 0)
        with_batches = [drawn.support.x, drawn.query.y]
        if ways > 1:
            try:
                with_batches += source.batch(Batches(16, 8), [0, 1], 0)
            except Invalid:
                assert not dataset.describe().classes.get("train")

    assert {tensor.device.type for tensor in with_batches} == {device.torch.type}


@pytest.mark.parametrize("algorithm", ["maml", "reptile", "protonet", "baseline"])
def test_cell_gives_the_numbers_of_the_cpu(algorithm: str) -> None:
    here = run_cell(algorithm, Device(dtype=torch.float64))
    with pretend_device() as device:
        there = run_cell(algorithm, device)

    assert len(here.training.losses) == 4
    for name in ("losses", "validations"):
        actual, expected = (
            [v[1] if name == "losses" else v.mean for v in getattr(r.training, name)] for r in (there, here)
        )
        assert actual == pytest.approx(expected, rel=1e-9)


def run_cell(algorithm: str, device: Device) -> CellRun:
    """Four steps of three tasks of letters with a small conv4, validated and scored."""
    protocol = Protocol(5, 1, 2)
    component = make(REGISTRY.find("algorithm", algorithm).cls)
    dataset = make(REGISTRY.find("dataset", "glyphs").cls)
    network = make(REGISTRY.find("network", "conv4").cls, {"width": 4})
    train = component.train_protocol(protocol)
    if isinstance(train, Batches):
        train = Batches(48, 16)
    cell = Cell(
        suite="s", suite_version=1, algorithm=Spec(algorithm), network=Spec("conv4"), dataset=Spec("glyphs"),
        test=protocol, train=train, budget=Budget(steps=4, tasks=3, validate_every=2, validation_tasks=8),
        evaluation=Evaluation(tasks=8, curve=(0, 1), latency_tasks=1), backend=Spec("cpu"), seed=0,
        plugins={}, group="g", label="",
    )  # fmt: skip
    torch.manual_seed(0)
    learner = component.build(Workload(dataset.describe(), train, protocol, 4, 3), network, device)
    metric = make(REGISTRY.find("metric", "accuracy").cls)
    run = CellRun(cell, learner, dataset.load(device), metric, device)
    training.train(run)
    evaluation.evaluate(run)
    return run


def test_tensors_of_two_devices_do_not_meet() -> None:
    with pretend_device() as device:
        there = torch.ones(3, device=device.torch)
        assert (there * torch.tensor(2.0)).tolist() == [2.0, 2.0, 2.0]  # a single number may, as on a GPU
        assert there[torch.tensor([0, 2])].tolist() == [1.0, 1.0]  # so may an index
        assert there.cpu().numpy().sum() == 3.0
        with pytest.raises(StrayError, match=r"^test_pretended_device.py, line \d+: .* \(3,\), meets one"):
            there + torch.ones(3)
        with pytest.raises(StrayError, match="meets one of the device"):
            torch.ones(3)[torch.tensor([0], device=device.torch)]
        with pytest.raises(StrayError, match="converted to a numpy array"):
            np.asarray(there)
        with pytest.raises(StrayError, match="an RNG of the CPU"):
            torch.rand(2, generator=torch.Generator(), device=device.torch)


def test_gradients_flow_on_the_pretended_device_and_views_write_through() -> None:
    with pretend_device() as device:
        x = torch.arange(4.0, device=device.torch, dtype=device.dtype).requires_grad_()
        (first,) = torch.autograd.grad(x.pow(3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
        whole = torch.zeros(2, 2, device=device.torch)
        whole[0].add_(1.0)

    assert (first.tolist(), second.tolist()) == ([0.0, 3.0, 12.0, 27.0], [0.0, 6.0, 12.0, 18.0])
    assert whole.tolist() == [[1.0, 1.0], [0.0, 0.0]]
