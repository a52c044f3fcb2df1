"""The paired timing cell: two cells' training steps timed in one process, in turns.

Two runs of one loop minutes apart were seen to differ by 30 %; blocks that take turns meet the same
moods of the machine, so that their ratio shows differences of a few per cent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from metabench.contracts import Backend, Dataset
from metabench.device.device import Device
from metabench.device.memory import keep_freed_memory
from metabench.errors import RequestError
from metabench.plugins import Registry
from metabench.records.cell import Cell, Spec, Workload
from metabench.settings import make
from metabench.stats import Ratio, time_ratio
from metabench.worker import cell_run

Step = Callable[[], None]


@dataclass(frozen=True)
class Pairing:
    """Seconds of one training step of each cell, block by block; ratio: new / base with its interval."""

    base_seconds: tuple[float, ...]
    new_seconds: tuple[float, ...]
    ratio: Ratio


def pair(base: Cell, new: Cell, registry: Registry, pairs: int = 20, block_seconds: float = 0.5) -> Pairing:
    """Times `pairs` pairs of blocks of about `block_seconds` each; their order turns round every time.

    Raises RequestError where the cells have different backends, several ranks, or nothing to train.
    """
    _require(base, new)
    keep_freed_memory()
    backend: Backend = make(registry.find("backend", base.backend.name).cls, base.backend.settings)
    with backend.open() as device, device.numerics():
        steps = [_step(cell, registry, device) for cell in (base, new)]
        counts = [_count(step, device, block_seconds) for step in steps]
        seconds: tuple[list[float], list[float]] = ([], [])
        for number in range(pairs):
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                seconds[side].append(_timed(steps[side], counts[side], device))
    return Pairing(tuple(seconds[0]), tuple(seconds[1]), time_ratio(seconds[1], seconds[0]))


def _require(base: Cell, new: Cell) -> None:
    if base.backend != new.backend:
        raise RequestError(
            f"{base.id} and {new.id} have different backends ({base.backend.name}, {new.backend.name}): "
            "one process has one backend"
        )
    if base.ranks > 1:
        raise RequestError(f"{base.id} has several ranks: a paired timing is made in one process")
    for cell in (base, new):
        if cell.train is None or not cell.budget.steps:
            raise RequestError(f"{cell.id} trains nothing whose steps could be timed")


def _step(cell: Cell, registry: Registry, device: Device) -> Step:
    """One training step of the cell's loop: sampling, learning, updating."""
    dataset: Dataset = _made(registry, "dataset", cell.dataset)
    network = _made(registry, "network", cell.network) if cell.network else None
    budget = cell.budget
    workload = Workload(dataset.describe(), cell.train, cell.test, budget.steps, budget.tasks, cell.seed)
    torch.manual_seed(cell.seed)
    source = dataset.load(device)
    learner = _made(registry, "algorithm", cell.algorithm).build(workload, network, device)
    metric = _made(registry, "metric", Spec(cell.evaluation.metric))
    run = cell_run.Run(cell, learner, source, metric, device)
    parameters: Sequence[torch.Tensor] = learner.parameters()
    done = 0

    def step() -> None:
        nonlocal done
        number = done % budget.steps  # schedules end with the budget; another turn begins
        batch = cell_run.draw(run, number)
        if batch is not None:
            learner.learn(batch, number, budget.steps)
            device.average_gradients(parameters, 1.0)
            learner.update(number, budget.steps)
        done += 1

    return step


def _made(registry: Registry, kind: str, spec: Spec) -> Any:
    return make(registry.find(kind, spec.name).cls, spec.settings)


def _count(step: Step, device: Device, block_seconds: float) -> int:
    """How many steps fill a block, found after some steps of warm-up."""
    _timed(step, 3, device)
    return max(1, round(block_seconds / max(_timed(step, 3, device), 1e-9)))


def _timed(step: Step, count: int, device: Device) -> float:
    """Seconds of one of `count` steps."""
    started = device.clock()
    for _ in range(count):
        step()
    return (device.clock() - started) / count
