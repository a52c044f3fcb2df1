"""One cell while it runs: how it is built, and what each rank draws."""

import itertools
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.results import made_cell
from helpers.toy_runs import Follower, run_of, toy_cell
from metabench import Algorithm, Batches, Budget, Cell, Evaluation, Examples, Invalid, Learner, Protocol, Spec
from metabench.device import Device
from metabench.plugins import load
from metabench.records import SPLITS, Event, Facts, SetupEvent
from metabench.records.cell import NETWORK_WEIGHTS
from metabench.results.states import write_state
from metabench.settings import make
from metabench.worker import cell_run
from metabench.worker.cell_run import build, draw, share
from metabench.worker.evaluation import evaluate
from metabench.worker.training import train


@dataclass(frozen=True, kw_only=True)
class Untyped(Algorithm):
    """Builds a learner that says nothing of what it outputs."""

    name = "untyped"

    def build(self, workload: Any, network: Any, device: Device) -> Learner:
        learner = Follower()
        learner.outputs = Learner.outputs
        return learner


def test_run_is_built_from_its_cell_with_its_seed() -> None:
    registry = load()
    events: list[Event] = []
    protocol = Protocol(1, 5, 5)
    cell = Cell(
        suite="s", suite_version=1, algorithm=Spec("maml"), network=Spec("mlp", {"hidden": [8]}),
        dataset=Spec("sinusoid"), test=protocol, train=protocol, budget=Budget(steps=3, tasks=2),
        evaluation=Evaluation(tasks=4, metric="mse"), backend=Spec("cpu"), seed=0, plugins={},
    )  # fmt: skip

    def weights(seed: int) -> list[float]:
        run = build(
            replace(cell, seed=seed),
            lambda kind, spec: make(registry.find(kind, spec.name).cls, spec.settings),
            Device(),
            events.append,
        )
        assert set(run.setup) == {"data", "build"}
        assert min(run.setup.values()) > 0
        return torch.cat([p.detach().flatten() for p in run.learner.parameters()]).tolist()

    assert weights(0) == weights(0) != weights(1)
    assert events == [SetupEvent()] * 3


def test_metric_that_cannot_score_the_learner_ends_the_cell_before_training() -> None:
    registry = load()

    def make_component(kind: str, spec: Spec) -> Any:
        if kind == "algorithm":
            return Untyped()
        return make(registry.find(kind, spec.name).cls, spec.settings)

    cell = replace(toy_cell(Budget(), Evaluation(metric="mse")), dataset=Spec("sinusoid"))
    with pytest.raises(
        Invalid, match="metric 'mse' needs values; algorithm 'untyped' predicts scores without"
    ):
        build(cell, make_component, Device())


def test_weights_of_a_network_need_a_network(tmp_path: Path) -> None:
    registry = load()
    digest = write_state(tmp_path / "weights", {"head.weight": torch.zeros(1)})
    cell = toy_cell(Budget(), Evaluation(metric="mse"))
    cell = replace(cell, algorithm=Spec("maml"), dataset=Spec("sinusoid"), network=None)

    with pytest.raises(Invalid, match="weights are of its network, and it has none"):
        build(
            replace(cell, weights=NETWORK_WEIGHTS + digest),
            lambda kind, spec: make(registry.find(kind, spec.name).cls, spec.settings),
            Device(),
            weights=str(tmp_path / "weights"),
        )


def test_finish_sees_the_same_labelled_examples_each_time() -> None:
    learner = Follower()
    run = run_of(learner, Budget(steps=4, tasks=2, validate_every=2, validation_tasks=2))
    train(run)
    evaluate(run)
    assert learner.finished == [[0.0, 1.0, 2.0]] * 3


def test_ranks_share_out_every_unit_once() -> None:
    class Rank(Device):
        def __init__(self, rank: int, world: int) -> None:
            super().__init__()
            self.rank, self.world_size = rank, world

    for count, world in itertools.product((1, 5, 32), (1, 2, 3, 4)):
        shares = [share(count, Rank(rank, world)) for rank in range(world)]
        assert [i for share in shares for i in share] == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_supervised_batches_are_drawn_as_micro_batches() -> None:
    run = run_of(Follower(), Budget(steps=1, tasks=48), train=Batches(48, 16))
    (drawn,) = draw(run, 2)
    assert isinstance(drawn, Examples)
    assert drawn.y[:, 0].tolist() == [6, 7, 8]  # three micro-batches a step, numbered on from step to step


class Described:
    """A data set of which only the groups of its classes are known."""

    def __init__(self, *groups: str) -> None:
        self.name = groups[0]
        self.facts = Facts(
            "classification", (1, 8, 8), classes=dict.fromkeys(SPLITS, 5),
            groups=dict.fromkeys(SPLITS, groups),
        )  # fmt: skip

    def describe(self) -> Facts:
        return self.facts


def test_what_weights_were_trained_on_is_unknown_unless_they_are_the_cells_own() -> None:
    cell = made_cell("maml")
    overlap = partial(cell_run._overlap, dataset=Described("script:Greek"), tested=Described("script:Thai"))

    assert overlap(cell) == "none"
    assert overlap(replace(cell, weights="a" * 64)) == "unknown"
    assert overlap(replace(cell, weights="a" * 64, scored="b" * 64)) == "none"
