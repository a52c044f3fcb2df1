"""Tiny components that fit in a test: two data sets, a network, and results to fill a table with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn

from metabench.contracts import Dataset, Episodes, Examples, Network, Source
from metabench.data import ClassIndex, TensorSource, draws
from metabench.errors import Invalid
from metabench.learning.networks import Headed
from metabench.records.cell import SPLITS, Budget, Cell, Evaluation, Facts, Spec, Split, Status
from metabench.records.protocol import Protocol
from metabench.records.result import Block, Result, Scores, Training, Validation
from metabench.settings import setting

if TYPE_CHECKING:
    from metabench.device.device import Device

CLASSIFICATION = Protocol(3, 2, 3)
"""A classification task that fits `TinyClasses`."""
REGRESSION = Protocol(1, 4, 6)
"""A regression task that fits `TinyCurves`."""


@dataclass(frozen=True, kw_only=True)
class TinyClasses(Dataset):
    """Gaussian classes of 1 × 4 × 4 inputs: 20 classes in each split, 12 examples of each class."""

    name: ClassVar[str] = "tiny-classes"
    shape: tuple[int, ...] = setting((1, 4, 4), "of one example", at_least=1)
    classes: int = setting(20, "classes of each split", at_least=2)
    images: int = setting(12, "examples of each class", at_least=2)

    def describe(self) -> Facts:
        """Return the facts of these settings."""
        counts = dict.fromkeys(SPLITS, self.classes)
        return Facts("classification", self.shape, None, counts, dict.fromkeys(SPLITS, self.images))

    def load(self, device: Device) -> Source:
        """Make the examples: a class is a centre, an example a point around it."""
        total, size = len(SPLITS) * self.classes, prod(self.shape)
        stream = draws.streams(draws.key("metabench", self.name), range(total * (self.images + 1)))
        noise = draws.normal(stream, size).reshape(total, self.images + 1, size)
        examples = (2 * noise[:, :1] + noise[:, 1:]).reshape(-1, *self.shape)
        splits: dict[Split, ClassIndex] = {}
        for number, split in enumerate(("train", "validation", "test")):
            names = [f"{split}-{index}" for index in range(self.classes)]
            first = number * self.classes * self.images
            splits[split] = ClassIndex.of_counts(names, [self.images] * self.classes, first)  # type: ignore[index]  # a tuple of literals
        return TensorSource(self.name, examples, splits, device)


@dataclass(frozen=True, kw_only=True)
class TinyCurves(Dataset):
    """Regression of y = a·sin(x + b); every task has its own a and b."""

    name: ClassVar[str] = "tiny-curves"

    def describe(self) -> Facts:
        """Return the facts: scalars on scalars, endless tasks."""
        return Facts("regression", (1,), 1, dict.fromkeys(SPLITS, 0), dict.fromkeys(SPLITS, 0))

    def load(self, device: Device) -> Source:
        """Return the source; it needs no data."""
        return _Curves(device)


class _Curves(Source):
    def __init__(self, device: Device) -> None:
        self.device = device

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        drawn = self.manifest(split, protocol, indices, seed)

        def tensor(name: str) -> torch.Tensor:
            return torch.from_numpy(drawn[name][..., None]).to(self.device.torch, self.device.dtype)

        x, y, n = tensor("x"), tensor("y"), protocol.shots
        none = torch.empty((len(x), 0), dtype=torch.int64, device=self.device.torch)
        index = torch.tensor(list(indices), device=self.device.torch)
        return Episodes(Examples(x[:, :n], y[:, :n]), Examples(x[:, n:], y[:, n:]), none, index)

    def manifest(
        self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        if protocol.ways != 1:
            raise Invalid(f"tiny-curves is regression: its protocol has ways = 1, not {protocol.ways}")
        key = draws.key("metabench", "tiny-curves", split, protocol.shots, protocol.queries, seed)
        drawn = draws.uniform(draws.streams(key, indices), 2 + protocol.shots + protocol.queries)
        x = 4 * drawn[:, 2:] - 2
        return {"x": x, "y": (0.5 + drawn[:, :1]) * np.sin(x + 3 * drawn[:, 1:2])}


@dataclass(frozen=True, kw_only=True)
class TinyNetwork(Network):
    """One hidden layer of 6 with tanh, smooth enough for finite differences."""

    name: ClassVar[str] = "tiny-network"
    batch_norm: bool = setting(False, "normalise the hidden layer by its batch, which sees other queries")
    misfit: bool = setting(False, "refuse every input, as a network does that an input does not fit")

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """Build `.features` of 6 units and a linear `.head`."""
        if self.misfit:
            raise Invalid(f"tiny-network: an input of {input_shape} does not fit")
        layers = [nn.Flatten(), nn.Linear(prod(input_shape), 6)]
        if self.batch_norm:
            layers.append(nn.BatchNorm1d(6, track_running_stats=False))
        return Headed(nn.Sequential(*layers, nn.Tanh()), 6, outputs)


def tiny_results(names: Sequence[str] = ("one", "two"), seeds: Sequence[int] = (0, 1)) -> list[Result]:
    """Results as a run stores them: of algorithms of these names, one on two ranks, and one that failed.

    The names stand in every place where a stranger's text can: algorithm, label, data set, machine, reason.
    """
    generator = np.random.default_rng(0)
    results = []
    for number, name in enumerate(names):
        home = names[number - number % 3]  # three algorithms meet on one data set
        for seed in seeds:
            scores = np.clip(generator.normal(0.6 + 0.1 * number, 0.1, 40), 0, 1)
            results.append(_ok(_cell(name, home, seed), name, tuple(map(float, scores))))
    for ranks in (1, 2):
        cell = _cell(names[0], names[0], 0, ranks)
        results.append(
            _ok(cell, names[0], results[0].scores.per_task if results[0].scores else (), 1 / ranks)
        )
    last = names[-1]
    results.append(Result(
        cell=_cell(last, last, seeds[-1] + 1), status=Status.FAILED, reason=f"RuntimeError: {last}",
        log_tail=(f"line {last}",), environment={"machine": last}, notes=(last,),
    ))  # fmt: skip
    return results


def _cell(name: str, dataset: str, seed: int, ranks: int = 0) -> Cell:
    parts = ("algorithm", "network", "dataset", "backend", "metric")
    backend = Spec("cpu-ranks", {"ranks": ranks, "threads": 1}) if ranks else Spec("cpu", {"threads": 1})
    return Cell(
        suite="tiny", suite_version=1, algorithm=Spec(name, {"text": name}), network=Spec("tiny-network"),
        dataset=Spec(dataset), test=CLASSIFICATION, train=CLASSIFICATION,
        budget=Budget(steps=20, tasks=4, validate_every=10),
        evaluation=Evaluation(tasks=40, metric="accuracy", curve=(0, 1)),
        backend=backend, seed=seed, plugins=dict.fromkeys(parts, f"{name} 1.0"),
        group="scaling" if ranks else "accuracy", label=name,
    )  # fmt: skip


def _ok(cell: Cell, name: str, scores: tuple[float, ...], slowness: float = 1.0) -> Result:
    blocks = tuple(Block(1, 0.01 * slowness, learning=0.008 * slowness) for _ in range(20))
    validations = tuple(
        Validation(step, 0.01 * slowness * step, 0.4 + 0.01 * step, 0.02) for step in (10, 20)
    )
    return Result(
        cell=cell, status=Status.OK, started="2026-01-01T00:00:00+00:00", wall_seconds=2.0,
        command=f"metabench run {name}", parameters=100, path="batched",
        environment={"machine": name, "processor": name, "cores": 2, "system": "Linux",
                     "python": "3.11", "packages": {"metabench": "0.1.0", "torch": "2.9.0"}},
        setup={"start": 0.1, "import": 0.1, "data": 0.1, "build": 0.1},
        training=Training(steps=20, tasks=80, seconds=0.2 * slowness, blocks=blocks, losses=((20, 0.5),),
                          validations=validations, best_step=20),
        scores=Scores("accuracy", "share", True, scores, manifest="0" * 64, seconds=0.1,
                      adapt_seconds=(0.05,), adapt_tasks=(40.0,),
                      curve={"0": tuple(score / 2 for score in scores), "1": scores},
                      state="best validation, step 20"),
        memory={"host": 1e8}, notes=(name,),
    )  # fmt: skip
