"""One cell while it runs: what it is built from, and which of its tasks this rank works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metabench.contracts import Algorithm, Dataset, Episodes, Examples, Learner, Metric, Network, Source
from metabench.data.manifests import drawn_digest
from metabench.data.micro_batches import micro_batches
from metabench.data.order import draw_episodes
from metabench.data.shapes import groups
from metabench.device.device import Device
from metabench.device.memory import keep_freed_memory
from metabench.errors import Invalid
from metabench.records.cell import NETWORK_WEIGHTS, Cell, Evaluation, Spec, Split, Workload
from metabench.records.crossing import crossing_problem, overlap_is_known
from metabench.records.metric_scores import metric_slot, metric_title
from metabench.records.outputs import mismatch
from metabench.records.progress import Event, SetupEvent
from metabench.records.protocol import Batches, Protocol
from metabench.records.result import Training
from metabench.results.predictions import TaskPredictions
from metabench.worker.checkpoint import CheckpointFile, Guard
from metabench.worker.energy import EnergyClock
from metabench.worker.sealed import WithoutTest
from metabench.worker.weights import PretrainedNetwork, read_weights

Emit = Callable[[Event], None]
"""Writes one progress event."""

MakeComponent = Callable[[str, Spec], Any]
"""Returns the component of this kind, by its name and settings."""


@dataclass
class CellRun:
    """One cell while it runs: what it is built from, and what has been measured so far.

    metric: the one that selects and ranks; further: the others, by their titles; setup: seconds of "data"
    (loading the data set) and of "build" (building the learner); trained: whether training has ended; guard:
    held while the learner or these records change; predictions: of this rank's test tasks, where the cell
    keeps them; test_source: the data set that is tested, where it is another one; overlap, manifest: see
    `Scores`; with_open_block: once the cell trains, gives the training with the steps of the open block.
    """

    cell: Cell
    learner: Learner
    source: Source
    metric: Metric
    device: Device
    emit: Emit = lambda event: None
    setup: Mapping[str, float] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    best_state: Mapping[str, Tensor] | None = None
    test_source: Source | None = None
    overlap: str = ""
    manifest: str = ""
    trained: bool = False
    guard: Guard = field(default_factory=Guard)
    checkpoint: CheckpointFile | None = None
    with_open_block: Callable[[], Training] | None = None
    further: Mapping[str, Metric] = field(default_factory=dict)
    predictions: Sequence[TaskPredictions] = ()

    def __post_init__(self) -> None:
        self.energy, self.training_energy = EnergyClock(self.device), EnergyClock(self.device)

    @property
    def metrics(self) -> dict[str, Metric]:
        """Every metric of the cell by its title, the one that selects and ranks first."""
        return {self.cell.evaluation.metric: self.metric, **self.further}

    def source_of(self, split: Split) -> Source:
        """The data set that tasks of a split come from."""
        other = self.test_source if split == "test" else None
        return self.source if other is None else other

    def finish(self) -> None:
        """Lets the learner compute what it needs before it is scored."""
        protocol = self.cell.train if isinstance(self.cell.train, Protocol) else self.cell.test
        with self.guard.changing():
            self.learner.finish(micro_batches(self.source, protocol, self.cell.seed))


def build(
    cell: Cell,
    make_component: MakeComponent,
    device: Device,
    emit: Emit = lambda event: None,
    weights: str = "",
) -> CellRun:
    """Load the data and build the learner of a cell; the cell's seed decides the initial weights.

    weights: the file that they are loaded from, where the cell names any.
    """
    emit(SetupEvent())
    keep_freed_memory()
    started = device.clock()
    dataset: Dataset = make_component("dataset", cell.dataset)
    overlap, test_source = "", None
    source = dataset.load(device)
    if cell.scored_split != "test":
        source = WithoutTest(source)
    if cell.test_dataset is not None:
        tested: Dataset = make_component("test_dataset", cell.test_dataset)
        overlap, test_source = _overlap(cell, dataset, tested), tested.load(device)
    manifest = _draw_evaluation(cell, source, test_source or source)
    loaded = device.clock()
    algorithm: Algorithm = make_component("algorithm", cell.algorithm)
    network: Network | None = make_component("network", cell.network) if cell.network else None
    tensors = read_weights(cell.weights, weights) if cell.weights else {}
    of_network = cell.weights.startswith(NETWORK_WEIGHTS)
    if of_network:
        if network is None:
            raise Invalid("the cell's weights are of its network, and it has none: name the network")
        network = PretrainedNetwork(network, tensors)
    metric: Metric = make_component("metric", Spec(cell.evaluation.metric))
    workload = Workload(
        dataset.describe(), cell.train, cell.test, cell.planned_steps, cell.budget.tasks, cell.seed
    )
    torch.manual_seed(cell.seed)  # torch's initialisers draw from its global RNG
    learner = algorithm.build(workload, network, device)
    if cell.weights and not of_network:
        learner.load_state_dict(tensors)
    further = {
        metric_title(spec): make_component(metric_slot(spec), spec) for spec in cell.evaluation.metrics
    }
    for scoring in (metric, *further.values()):
        reason = mismatch(scoring.name, scoring.needs, algorithm.name, learner.outputs)
        if reason is not None:
            raise Invalid(reason)
    setup = {"data": loaded - started, "build": device.clock() - loaded}
    return CellRun(
        cell, learner, source, metric, device, emit, setup, further=further, test_source=test_source,
        overlap=overlap, manifest=manifest,
    )  # fmt: skip


def _draw_evaluation(cell: Cell, source: Source, test_source: Source) -> str:
    """Return the digest of the tasks to score; where there are too few, the cell ends before training."""
    budget, evaluation = cell.budget, cell.evaluation
    if cell.trains and budget.validate_every:
        drawn_digest(source, "validation", cell.test, budget.validation_tasks, evaluation.seed)
    return manifest_digest(test_source, cell.scored_split, cell.test, evaluation)


def manifest_digest(source: Source, split: Split, protocol: Protocol, evaluation: Evaluation) -> str:
    """SHA-256 over what the tasks are made of: the same for every algorithm, seed, backend and rank."""
    return drawn_digest(source, split, protocol, evaluation.tasks, evaluation.seed)


def _overlap(cell: Cell, dataset: Dataset, tested: Dataset) -> str:
    """What is known of groups in training and test: "none" or "unknown"; raises Invalid where there are."""
    train, test = dataset.describe(), tested.describe()
    problem = crossing_problem(train, test, cell.learned_splits)
    if problem is not None:
        raise Invalid(f"test_dataset {tested.name!r} {problem}")
    if cell.weights and not cell.scored:  # nothing says what those were trained on
        return "unknown"
    return "none" if overlap_is_known(train, test, cell.learned_splits) else "unknown"


def share(count: int, device: Device) -> range:
    """The contiguous slice of `count` units that belongs to this rank."""
    start = count * device.rank // device.world_size
    return range(start, count * (device.rank + 1) // device.world_size)


def units(cell: Cell) -> int:
    """How many units of a training step the ranks share: tasks, or micro-batches."""
    return cell.train.units if isinstance(cell.train, Batches) else cell.budget.tasks


def draw(run: CellRun, step: int) -> Sequence[Episodes | Examples]:
    """This rank's slice of the tasks (or micro-batches) of a training step, in batches of one shape each."""
    cell = run.cell
    total = units(cell)
    mine = share(total, run.device)
    numbers = range(step * total + mine.start, step * total + mine.stop)
    if isinstance(cell.train, Batches):
        return [run.source.batch(cell.train, numbers, cell.seed)]
    assert cell.train is not None
    return [
        draw_episodes(run.source, "train", shape, of_shape, cell.seed)
        for shape, of_shape in groups(run.source, "train", cell.train, numbers, cell.seed)
    ]


def learn(learner: Learner, batches: Sequence[Episodes | Examples], step: int, total: int) -> Tensor:
    """Leave in `.grad` the mean gradient over the tasks of all batches; return their losses [T].

    Several batches are learned from one after the other: what counts is gradient × tasks / all tasks, and a
    gradient that is missing is zero.
    """
    if len(batches) == 1:
        return learner.learn(batches[0], step, total)
    parameters = learner.parameters()
    means = [torch.zeros_like(parameter) for parameter in parameters]
    tasks = [len(batch.index) if isinstance(batch, Episodes) else len(batch.x) for batch in batches]
    losses = []
    for batch, count in zip(batches, tasks, strict=True):
        losses.append(learner.learn(batch, step, total))
        for mean, parameter in zip(means, parameters, strict=True):
            if parameter.grad is not None:
                mean.add_(parameter.grad, alpha=count / sum(tasks))
    for mean, parameter in zip(means, parameters, strict=True):
        parameter.grad = mean
    return torch.cat(losses)
