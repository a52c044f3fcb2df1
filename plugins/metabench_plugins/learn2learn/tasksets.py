"""Makes a data set of learn2learn's task sets, with tasks that a seed repeats.

A subclass of `TasksetDataset` returns from `taskset` the library's task set of a split; this module does the
rest. learn2learn samples tasks, and most of its transforms sample their changes, from the global RNGs of
python, numpy and torch: here each task is drawn in a scope that seeds those three by the task's number and
restores them afterwards.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metabench import (
    Batches,
    DataError,
    Dataset,
    Episodes,
    Examples,
    Invalid,
    Protocol,
    Source,
    Split,
    UnevenProtocol,
)
from metabench.data import draws
from metabench.device import Device
from metabench_plugins.learn2learn.importing import FromLibrary, learn2learn
from metabench_plugins.learn2learn.rng import global_seed


@dataclass(frozen=True, kw_only=True)
class TasksetDataset(FromLibrary, Dataset):
    """The base class of data sets that learn2learn draws the tasks of; write `describe` and `taskset`."""

    @abstractmethod
    def taskset(self, split: Split, ways: int, samples: int) -> Any:
        """Return a `learn2learn.data.Taskset` of this split: tasks of `ways` classes with `samples` examples.

        It is called once for each split and size of task, so load the data outside of it. Its transforms
        must load the data and number a task's labels from 0 (`LoadData`, `RemapLabels`).
        """

    def load(self, device: Device) -> TasksetSource:
        """Build the source; raise DataError where splits overlap or labels are not numbers."""
        learn2learn()
        source = TasksetSource(self, device)
        source.check(self.describe().classes)
        return source


class Drawn(NamedTuple):
    """A task as the library drew it: x [ways·samples, *input], y [ways·samples], and where they are from.

    classes: [ways] numbers of the classes in the split; rows: [ways, samples] numbers of the examples in
    the data set that the library loads from; order: [ways, samples] their places in x.
    """

    x: Tensor
    y: Tensor
    classes: list[int]
    rows: np.ndarray[Any, Any]
    order: Tensor


class TasksetSource(Source):
    """Draws tasks by number from the task sets that a `TasksetDataset` makes."""

    def __init__(self, tasks: TasksetDataset, device: Device) -> None:
        self.tasks = tasks
        self.device = device
        self.identity = repr(tasks)
        self._tasksets: dict[tuple[Split, int, int], Any] = {}

    def check(self, splits: Iterable[str]) -> None:
        """Raise DataError where two splits share a class of one data set, or a class has no number."""
        seen: dict[int, dict[Any, str]] = {}
        for split in splits:
            dataset = self._taskset(split, 1, 1).dataset  # type: ignore[arg-type]  # a name of Facts.classes
            for label in dataset.labels:
                if isinstance(label, str):
                    raise DataError(
                        f"{self.tasks.name!r} has the label {label!r}: learn2learn orders labels by a set, "
                        "which for texts differs from process to process; number the classes"
                    )
                other = seen.setdefault(id(_root(dataset)), {}).setdefault(label, split)
                if other != split:
                    raise DataError(f"{self.tasks.name!r}: class {label} is in {other!r} and in {split!r}")

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        """Return the tasks of these numbers; labels run 0 … ways - 1, then 0 … ways - 1 again, and so on."""
        if isinstance(protocol, UnevenProtocol):
            raise Invalid(f"{self.tasks.name!r} draws tasks whose classes have equally many shots alone")
        tasks = [self._draw(split, protocol, number, seed) for number in indices]
        support, query = (
            Examples(*map(torch.stack, zip(*(_part(task, places) for task in tasks), strict=True)))
            for places in (slice(0, protocol.shots), slice(protocol.shots, None))
        )
        where = self.device.torch
        return Episodes(
            Examples(support.x.to(where, self.device.dtype), support.y.to(where)),
            Examples(query.x.to(where, self.device.dtype), query.y.to(where)),
            torch.tensor([task.classes for task in tasks], device=where),
            torch.tensor(list(indices), device=where),
        )

    def batch(self, batches: Batches, indices: Sequence[int], seed: int) -> Examples:
        """Return micro-batches of meta-train: consecutive shuffles of its examples, cut into pieces."""
        dataset = self._taskset("train", 1, 1).dataset
        numbers = {label: number for number, label in enumerate(dataset.labels)}
        micro_batches = []
        for index in indices:
            places = index * batches.micro + np.arange(batches.micro)
            rows = draws.permuted(self._key("batches", seed), places, len(dataset)).tolist()
            with global_seed(self._key("batch", seed, index)):
                x = torch.stack([torch.as_tensor(dataset[row][0]) for row in rows])
            micro_batches.append((x, torch.tensor([numbers[dataset.indices_to_labels[row]] for row in rows])))
        x, y = (torch.stack(part).to(self.device.torch) for part in zip(*micro_batches, strict=True))
        return Examples(x.to(self.device.dtype), y)

    def manifest(
        self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        """Return int64 classes [T, ways], support [T, shots·ways], query [T, queries·ways], index [T]."""
        tasks = [self._draw(split, protocol, number, seed) for number in indices]
        return {
            "classes": np.array([task.classes for task in tasks], dtype=np.int64),
            "support": np.array([task.rows[:, : protocol.shots].T.reshape(-1) for task in tasks]),
            "query": np.array([task.rows[:, protocol.shots :].T.reshape(-1) for task in tasks]),
            "index": np.asarray(indices, dtype=np.int64),
        }

    def _draw(self, split: Split, protocol: Protocol, number: int, seed: int) -> Drawn:
        ways, samples = protocol.ways, protocol.shots + protocol.queries
        taskset = self._taskset(split, ways, samples)
        with global_seed(self._key("tasks", split, ways, protocol.shots, protocol.queries, seed, number)):
            description = taskset.sample_task_description()  # past the library's cache of drawn tasks
            x, y = taskset.get_task(description)
        rows = np.array([example.index for example in description], dtype=np.int64)
        order = torch.sort(y, stable=True).indices
        if not torch.equal(y[order], torch.arange(ways).repeat_interleave(samples)):
            raise Invalid(
                f"{self.tasks.name!r} must number the labels of {ways} classes of {samples} examples from 0, "
                f"got {y.tolist()}; see `TasksetDataset.taskset`"
            )
        order = order.view(ways, samples)
        loaded = _loader(taskset).indices_to_labels
        labels = [loaded[int(rows[place])] for place in order[:, 0].tolist()]
        own = {label: place for place, label in enumerate(taskset.dataset.labels)}
        foreign = [label for label in labels if label not in own]
        if foreign:
            raise DataError(
                f"{self.tasks.name!r}: a task of {split!r} has class {foreign[0]}, which is not in that "
                "split; its transforms were made for another data set than the split's own: make them "
                "with `metabench_plugins.learn2learn.tasksets.class_tasks`"
            )
        return Drawn(x, y, [own[label] for label in labels], rows[order.numpy()], order)

    def _taskset(self, split: Split, ways: int, samples: int) -> Any:
        wanted = (split, ways, samples)
        if wanted not in self._tasksets:
            with global_seed(
                self._key("splits")
            ):  # the same for each split, as a library's shuffle may cut them
                self._tasksets[wanted] = self.tasks.taskset(split, ways, samples)
        return self._tasksets[wanted]

    def _key(self, *parts: str | int) -> int:
        return draws.key("metabench", self.identity, *parts)


def class_tasks(dataset: Any, ways: int, samples: int, rotate: bool = False) -> Any:
    """Return a Taskset of this `MetaDataset`'s own classes; rotate: each class by a multiple of 90°.

    It is what the library's Omniglot benchmark intends: see the page on learn2learn in the documentation.
    """
    data = learn2learn().data
    transforms = [
        data.transforms.NWays(dataset, ways),
        data.transforms.KShots(dataset, samples),
        data.transforms.LoadData(dataset),
        data.transforms.RemapLabels(dataset),
        data.transforms.ConsecutiveLabels(dataset),
    ]
    return data.Taskset(dataset, [*transforms, RotateClasses(dataset)] if rotate else transforms)


class RotateClasses:
    """A task transform that turns all images of a class by one random multiple of 90 degrees."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, task_description: Sequence[Any]) -> Sequence[Any]:
        """Sample each class's turn from python's RNG, as the library's transforms do."""
        turns: dict[Any, int] = {}
        for example in task_description:
            label = self.dataset.indices_to_labels[example.index]
            if label not in turns:
                turns[label] = random.randrange(4)
            example.transforms.append(partial(_turned, turns=turns[label]))
        return task_description


def _turned(example: Sequence[Any], turns: int) -> tuple[Any, ...]:
    return (torch.rot90(example[0], turns, (-2, -1)), *example[1:])


def _part(drawn: Drawn, places: slice) -> tuple[Tensor, Tensor]:
    """Return the examples at these places of each class, place by place."""
    chosen = drawn.order[:, places].T.reshape(-1)
    return drawn.x[chosen], drawn.y[chosen]


def _loader(taskset: Any) -> Any:
    """Return the data set that a task set's examples are loaded from."""
    load = learn2learn().data.transforms.LoadData
    transforms = taskset.task_transforms if isinstance(taskset.task_transforms, Sequence) else ()
    return next((step.dataset for step in transforms if isinstance(step, load)), taskset.dataset)


def _root(dataset: Any) -> Any:
    """Return the data set that `FilteredMetaDataset` was made from, through any number of filters."""
    while hasattr(dataset, "to_true_indices"):
        dataset = dataset.dataset
    return dataset
