"""Makes a data set of learn2learn's task sets, with tasks that a seed repeats.

A subclass of `TasksetDataset` says in `taskset` how the library makes the tasks of a split; everything else
is here. learn2learn draws tasks, and most of its transforms draw their changes, from the global generators
of python, numpy and torch: here each task is drawn in a scope that seeds those three by the task's number
and puts them back afterwards.
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

from metabench import Batches, DataError, Dataset, Episodes, Examples, Invalid, Protocol, Source, Split
from metabench.data import draws
from metabench.device import Device
from metabench_plugins.learn2learn.chance import global_seed
from metabench_plugins.learn2learn.importing import FromLibrary, learn2learn


@dataclass(frozen=True, kw_only=True)
class TasksetDataset(FromLibrary, Dataset):
    """The base of data sets that learn2learn draws the tasks of; write `describe` and `taskset`."""

    @abstractmethod
    def taskset(self, split: Split, ways: int, samples: int) -> Any:
        """A `learn2learn.data.Taskset` of this split: tasks of `ways` classes with `samples` examples each.

        Called once for each split and size of task, so keep the data itself outside of it. Its transforms
        must load the data and number a task's labels from 0 (`LoadData`, `RemapLabels`).
        """

    def load(self, device: Device) -> TasksetSource:
        """The source; raises DataError where splits overlap or labels are not numbers."""
        learn2learn()
        source = TasksetSource(self, device)
        source.check(self.describe().classes)
        return source


class Drawn(NamedTuple):
    """One task as the library drew it: x [ways·samples, *input], y [ways·samples], and what it is made of.

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
        self._made: dict[tuple[Split, int, int], Any] = {}

    def check(self, splits: Iterable[str]) -> None:
        """Raises DataError where two splits share a class of one data set, or a class has no number."""
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
        """The tasks of these numbers; labels run 0 … ways - 1, then 0 … ways - 1 again, and so on."""
        drawn = [self._draw(split, protocol, number, seed) for number in indices]
        support, query = (
            Examples(*(torch.stack(part) for part in zip(*(_part(d, places) for d in drawn), strict=True)))
            for places in (slice(0, protocol.shots), slice(protocol.shots, None))
        )
        where = self.device.torch
        return Episodes(
            Examples(support.x.to(where, self.device.dtype), support.y.to(where)),
            Examples(query.x.to(where, self.device.dtype), query.y.to(where)),
            torch.tensor([one.classes for one in drawn], device=where),
            torch.tensor(list(indices), device=where),
        )

    def batch(self, batches: Batches, indices: Sequence[int], seed: int) -> Examples:
        """Micro-batches of meta-train: shuffles of its examples, one after the other, cut into pieces."""
        dataset = self._taskset("train", 1, 1).dataset
        numbers = {label: number for number, label in enumerate(dataset.labels)}
        made = []
        for index in indices:
            places = index * batches.micro + np.arange(batches.micro)
            rows = draws.permuted(self._key("batches", seed), places, len(dataset)).tolist()
            with global_seed(self._key("batch", seed, index)):
                x = torch.stack([torch.as_tensor(dataset[row][0]) for row in rows])
            made.append((x, torch.tensor([numbers[dataset.indices_to_labels[row]] for row in rows])))
        x, y = (torch.stack(part).to(self.device.torch) for part in zip(*made, strict=True))
        return Examples(x.to(self.device.dtype), y)

    def manifest(
        self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        """classes [T, ways], support [T, shots·ways], query [T, queries·ways], index [T]; all int64."""
        drawn = [self._draw(split, protocol, number, seed) for number in indices]
        return {
            "classes": np.array([one.classes for one in drawn], dtype=np.int64),
            "support": np.array([one.rows[:, : protocol.shots].T.reshape(-1) for one in drawn]),
            "query": np.array([one.rows[:, protocol.shots :].T.reshape(-1) for one in drawn]),
            "index": np.asarray(indices, dtype=np.int64),
        }

    def _draw(self, split: Split, protocol: Protocol, number: int, seed: int) -> Drawn:
        ways, samples = protocol.ways, protocol.shots + protocol.queries
        taskset = self._taskset(split, ways, samples)
        with global_seed(self._key("tasks", split, ways, protocol.shots, protocol.queries, seed, number)):
            description = taskset.sample_task_description()  # past the library's cache of drawn tasks
            x, y = taskset.get_task(description)
        rows = np.array([one.index for one in description], dtype=np.int64)
        order = torch.sort(y, stable=True).indices
        if not torch.equal(y[order], torch.arange(ways).repeat_interleave(samples)):
            raise Invalid(
                f"{self.tasks.name!r} gives the labels {y.tolist()} where {ways} classes of {samples} "
                "examples were asked for, numbered from 0; see `TasksetDataset.taskset`"
            )
        order = order.view(ways, samples)
        loaded = _loader(taskset).indices_to_labels
        labels = [loaded[int(rows[place])] for place in order[:, 0].tolist()]
        own = {label: place for place, label in enumerate(taskset.dataset.labels)}
        strange = [label for label in labels if label not in own]
        if strange:
            raise DataError(
                f"{self.tasks.name!r}: a task of {split!r} has class {strange[0]}, which is none of that "
                "split's; its transforms were made for another data set than the split's own: make them "
                "with `metabench_plugins.learn2learn.tasksets.class_tasks`"
            )
        return Drawn(x, y, [own[label] for label in labels], rows[order.numpy()], order)

    def _taskset(self, split: Split, ways: int, samples: int) -> Any:
        wanted = (split, ways, samples)
        if wanted not in self._made:
            with global_seed(
                self._key("splits")
            ):  # the same for each split, as a library's shuffle may cut them
                self._made[wanted] = self.tasks.taskset(split, ways, samples)
        return self._made[wanted]

    def _key(self, *parts: str | int) -> int:
        return draws.key("metabench", self.identity, *parts)


def class_tasks(dataset: Any, ways: int, samples: int, rotate: bool = False) -> Any:
    """A Taskset of this `MetaDataset`'s own classes; rotate: each class by its own 0, 90, 180 or 270 degrees.

    What the library's Omniglot benchmark means to give: see the page on learn2learn in the documentation.
    """
    data = learn2learn().data
    made = [
        data.transforms.NWays(dataset, ways),
        data.transforms.KShots(dataset, samples),
        data.transforms.LoadData(dataset),
        data.transforms.RemapLabels(dataset),
        data.transforms.ConsecutiveLabels(dataset),
    ]
    return data.Taskset(dataset, [*made, RotateClasses(dataset)] if rotate else made)


class RotateClasses:
    """A task transform that turns all images of a class by one random multiple of 90 degrees."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, task_description: Sequence[Any]) -> Sequence[Any]:
        """Draws each class's turn from python's generator, as the library's transforms do."""
        turns: dict[Any, int] = {}
        for one in task_description:
            label = self.dataset.indices_to_labels[one.index]
            if label not in turns:
                turns[label] = random.randrange(4)
            one.transforms.append(partial(_turned, turns=turns[label]))
        return task_description


def _turned(example: Sequence[Any], turns: int) -> tuple[Any, ...]:
    return (torch.rot90(example[0], turns, (-2, -1)), *example[1:])


def _part(drawn: Drawn, places: slice) -> tuple[Tensor, Tensor]:
    """The examples at these places of each class, place by place."""
    chosen = drawn.order[:, places].T.reshape(-1)
    return drawn.x[chosen], drawn.y[chosen]


def _loader(taskset: Any) -> Any:
    """The data set that a task set's examples are loaded from."""
    load = learn2learn().data.transforms.LoadData
    transforms = taskset.task_transforms if isinstance(taskset.task_transforms, Sequence) else ()
    return next((one.dataset for one in transforms if isinstance(one, load)), taskset.dataset)


def _root(dataset: Any) -> Any:
    """The data set that `FilteredMetaDataset` was made from, through any number of filters."""
    while hasattr(dataset, "to_true_indices"):
        dataset = dataset.dataset
    return dataset
