"""A trial of a search scores validation tasks, and cannot see the test split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from metabench import Batches, Budget, Cell, Dataset, Episodes, Evaluation, Examples, Invalid, Protocol, Spec
from metabench.contracts import Source
from metabench.device import Device
from metabench.plugins import load
from metabench.records import Facts, Split
from metabench.records.tuning import Tuning, trial_cell
from metabench.settings import make
from metabench.worker.cell_run import CellRun, build
from metabench.worker.evaluation import evaluate
from metabench.worker.sealed import WithoutTest
from metabench.worker.training import train

REGISTRY = load()
SHAPE = Protocol(1, 5, 5)


class Mined(Source):
    """A source that fails the test when anything of its test split is drawn."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        assert split != "test", "test tasks were drawn"
        return self.source.episodes(split, protocol, indices, seed)

    def batch(self, batches: Batches, indices: Sequence[int], seed: int) -> Examples:
        return self.source.batch(batches, indices, seed)

    def manifest(
        self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Mapping[str, Any]:
        assert split != "test", "test tasks were drawn"
        return self.source.manifest(split, protocol, indices, seed)


@dataclass(frozen=True, kw_only=True)
class MinedSines(Dataset):
    """Sine waves whose test split must not be touched."""

    name = "mined"

    def describe(self) -> Facts:
        return _sinusoid().describe()

    def load(self, device: Device) -> Source:
        return Mined(_sinusoid().load(device))


def _sinusoid() -> Dataset:
    dataset: Dataset = make(REGISTRY.find("dataset", "sinusoid").cls, {})
    return dataset


def component(kind: str, spec: Spec) -> Any:
    return MinedSines() if kind == "dataset" else make(REGISTRY.find(kind, spec.name).cls, spec.settings)


def row(algorithm: Spec) -> Cell:
    """A row whose settings are searched, with a test that asks for all that an evaluation can do."""
    tuning = Tuning({"inner_rate": [0.001, 0.1, "log"]}, {"inner_rate": 0.01}, "sobol", 1001, trials=4)
    return Cell(
        suite="s", suite_version=1, algorithm=algorithm, network=Spec("mlp", {"hidden": [8]}),
        dataset=Spec("mined"), test=SHAPE, train=SHAPE, backend=Spec("cpu"), seed=0, plugins={},
        budget=Budget(steps=4, tasks=2, validate_every=2, validation_tasks=6, target=0.0),
        evaluation=Evaluation(
            tasks=9, metric="mse", curve=(0, 1), latency_tasks=2, metrics=(Spec("mae"),), predictions=True
        ),
        test_dataset=Spec("sinusoid"), tuning=tuning.to_json(),
    )  # fmt: skip


def run_of(cell: Cell) -> CellRun:
    return build(cell, component, Device())


def test_a_trial_is_trained_and_scored_without_the_test_split() -> None:
    algorithm = Spec("maml", {"inner_rate": 0.01})
    run = run_of(trial_cell(row(algorithm), 0, algorithm))

    train(run)
    scores = evaluate(run)

    assert len(scores.per_task) == 6
    best = min(validation.mean for validation in run.training.validations)
    assert sum(scores.per_task) / 6 == pytest.approx(best, rel=1e-12)
    assert (scores.curve, scores.latency_seconds, scores.further, run.predictions) == ({}, (), {}, [])
    assert run.cell.test_dataset is None


def test_a_learner_that_trains_nothing_is_scored_on_validation_tasks_too() -> None:
    algorithm = Spec("scratch", {"steps": 2})
    cell = replace(trial_cell(row(algorithm), 0, algorithm), train=None)

    assert len(evaluate(run_of(cell)).per_task) == 6


def test_whatever_a_trial_asks_of_the_test_split_is_refused() -> None:
    algorithm = Spec("maml", {"inner_rate": 0.01})
    source = run_of(trial_cell(row(algorithm), 0, algorithm)).source

    for ask in (source.episodes, source.manifest):
        with pytest.raises(Invalid, match="must choose settings by validation tasks"):
            ask("test", SHAPE, [0], 0)
    with pytest.raises(Invalid, match="must choose settings by validation tasks"):
        source.shape("test", SHAPE, 0, 0)


def test_the_mines_are_live() -> None:
    cell = replace(row(Spec("maml")), tuning={}, test_dataset=None)

    with pytest.raises(AssertionError, match="test tasks were drawn"):
        run_of(cell)


def test_every_method_of_a_source_is_sealed() -> None:
    methods = {name for name in vars(Source) if not name.startswith("_")}

    assert methods == {name for name in vars(WithoutTest) if not name.startswith("_")}
