"""`check_dataset`: tasks of the described shape, the same at every call, disjoint between splits."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import SkipTest

import numpy as np
import torch
from torch import Tensor

from metabench.contracts import Dataset, Episodes, Examples, Source
from metabench.device.device import Device
from metabench.errors import CellEnd, Invalid
from metabench.records.cell import SPLITS, Facts, Split
from metabench.records.protocol import Batches, Protocol
from metabench.testing.contract_error import Subject, begin
from metabench.testing.dataset_facts import LEAST_TASKS, check_facts, check_missing
from metabench.testing.dataset_leaks import COPIES, near_copies, readable_places
from metabench.testing.dataset_manifests import manifest_fault
from metabench.testing.dataset_probe import digest_in_another_process, digest_of_tasks
from metabench.testing.pretended_device import check_no_strays
from metabench.testing.shapes import check_shape, check_uneven

TASKS = LEAST_TASKS
SEED = 4


def check_dataset(
    dataset: Dataset | type[Dataset],
    *,
    test: Protocol | None = None,
    tasks: int = 24,
    device: Device | None = None,
) -> None:
    """Check a data set against its whole contract; load it four times, and once in another process.

    test: the shape of the tasks to draw, 3-way 1-shot with 2 queries or 5 points and 5 by default; tasks:
    how many of each split are searched for leaks and for examples that another split has;
    device: another than the CPU in float64.

    Raises ContractError with what is wrong and what to do; SkipTest if the data is absent, after what can be
    checked without it. A data set that is defined inside a function is drawn in this process alone.
    """
    dataset, subject = begin("dataset", dataset)
    absent = check_missing(dataset, subject)
    facts = check_facts(dataset, subject, absent)
    if absent is not None:
        raise SkipTest(f"{subject.title}: {absent}")
    device = device or Device(dtype=torch.float64)
    protocol = test or (Protocol(1, 5, 5) if facts.kind == "regression" else Protocol(3, 1, 2))
    with subject.doing("load(device)"):
        source = dataset.load(device)
    bench = _Bench(subject, facts, source, protocol, device)
    splits: list[Split] = [split for split in SPLITS if split in facts.classes]  # type: ignore[misc]
    for split in splits:
        bench.check_shapes(split)
        check_shape(subject, source, split, protocol)
        check_uneven(subject, source, split, protocol)
        bench.check_draws(split)
        bench.check_manifest(split)
        bench.check_manifest_matches(split, tasks)
        bench.check_readable(split, tasks)
    bench.check_randomness()
    bench.check_batches()
    bench.check_errors(splits[0])
    bench.check_disjoint(splits, tasks)
    bench.check_copies(splits, tasks)
    with subject.doing("load(device) once more"):
        again = dataset.load(device)
    other = _Bench(subject, facts, again, protocol, device)
    subject.require(
        _same(bench.draw(splits[-1]), other.draw(splits[-1])),
        "loaded twice, it draws other tasks: a task is a pure function of (data set, split, protocol, seed, "
        "number); make keys with metabench.data.draws and sort what a folder lists",
    )

    def draw_there(device: Device) -> None:
        there = _Bench(subject, facts, dataset.load(device), protocol, device)
        for split in splits:
            there.check_shapes(split)
        there.check_batches()

    check_no_strays(subject, draw_there, device.dtype)
    _check_process(subject, dataset, protocol, splits)


def _check_process(subject: Subject, dataset: Dataset, protocol: Protocol, splits: Sequence[Split]) -> None:
    """Another process, whose strings have other hashes, draws the same tasks."""
    there = digest_in_another_process(dataset, protocol, splits)
    here = digest_of_tasks(dataset.load(Device(dtype=torch.float64)), protocol, splits)
    subject.require(
        there in (None, here),
        "another process draws other tasks: the order of a set and hash() differ between processes "
        "(PYTHONHASHSEED); sort what comes from a set, and make keys with metabench.data.draws",
    )


class _Bench:
    """A loaded data set, and the tasks that the checks draw from it."""

    def __init__(
        self, subject: Subject, facts: Facts, source: Source, protocol: Protocol, device: Device
    ) -> None:
        self.subject, self.facts, self.source, self.device = subject, facts, source, device
        self.protocol = protocol

    def draw(self, split: Split, numbers: Sequence[int] = range(TASKS), seed: int = SEED) -> Episodes:
        with self.subject.doing(f"episodes({split!r}, …)"):
            return self.source.episodes(split, self.protocol, numbers, seed)

    def numbers(self, split: Split, count: int) -> range:
        """The numbers of so many tasks, or of all that an official list has."""
        return range(min(count, self.facts.tasks.get(split, count)))

    def check_shapes(self, split: Split) -> None:
        """Check shapes, types, devices and labels."""
        require, protocol, facts = self.subject.require, self.protocol, self.facts
        drawn = self.draw(split)
        for part, count in (("support", protocol.shots), ("query", protocol.queries)):
            examples: Examples = getattr(drawn, part)
            n = protocol.ways * count
            self._tensor(f"{part}.x", examples.x, (TASKS, n, *facts.input_shape), self.device.dtype)
            if facts.outputs is not None:
                self._tensor(f"{part}.y", examples.y, (TASKS, n, facts.outputs), self.device.dtype)
                continue
            self._tensor(f"{part}.y", examples.y, (TASKS, n), torch.int64)
            expected = torch.arange(protocol.ways, device=examples.y.device).repeat_interleave(count)
            require(
                bool((examples.y.sort(1).values == expected).all()),
                f"{part}.y of split {split!r} must hold each class 0 … {protocol.ways - 1} {count} times: "
                "labels count the task's own classes from 0",
            )
        ways = protocol.ways if facts.outputs is None else 0
        self._tensor("classes", drawn.classes, (TASKS, ways), torch.int64)
        self._tensor("index", drawn.index, (TASKS,), torch.int64)
        require(
            drawn.index.tolist() == list(range(TASKS)), "index does not hold the numbers that were asked for"
        )
        classes = facts.classes[split]
        if ways:
            distinct = all(len(set(row)) == ways for row in drawn.classes.tolist())
            least, most = int(drawn.classes.min()), int(drawn.classes.max())
            require(
                distinct and least >= 0 and (not classes or most < classes),
                f"classes of split {split!r} are not {ways} different numbers below {classes} in every task",
            )
        both = torch.cat([drawn.support.x, drawn.query.x], 1).flatten(2)
        require(
            bool(both.isfinite().all()), f"inputs of split {split!r} hold values that are no finite number"
        )
        overlap = (drawn.support.x.flatten(2)[:, :, None] == drawn.query.x.flatten(2)[:, None]).all(3)
        require(
            not bool(overlap.any()),
            f"a task of split {split!r} has the same example in its support and its query set: draw without "
            "replacement",
        )

    def _tensor(self, what: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        expected = f"{dtype} {shape} on {self.device.torch.type}"
        actual = repr(value)
        if isinstance(value, Tensor):
            actual = f"{value.dtype} {tuple(value.shape)} on {value.device.type}"
        self.subject.require(
            isinstance(value, Tensor) and actual == expected,
            f"{what} must be {expected}, got {actual}: inputs have device.dtype, numbers of classes and "
            "tasks int64, and everything lies on device.torch",
        )

    def check_draws(self, split: Split) -> None:
        """Check that draws repeat, do not depend on their neighbours, and differ by number and by seed."""
        require = self.subject.require
        first = _copy(self.draw(split))
        require(
            _same(first, self.draw(split)),
            f"split {split!r} draws other tasks at the second call: a task is a pure function of split, "
            "protocol, seed and number, with no generator that moves on",
        )
        turned = self.draw(split, range(TASKS - 1, 0, -2))
        require(
            _same(_rows(first, list(range(TASKS - 1, 0, -2))), turned),
            f"split {split!r}: task number 5 changes when it is drawn in another slice or order: draw each "
            "task by its own number, since ranks shard the numbers",
        )
        drawn = self.draw(split)
        drawn.support.x.add_(1.0)
        drawn.query.x.add_(1.0)
        require(
            _same(first, self.draw(split)),
            f"split {split!r}: changing the tensors of a task changes later draws: return copies, not views "
            "of the data",
        )
        require(
            not torch.equal(first.support.x[0], first.support.x[1]),
            f"tasks 0 and 1 of split {split!r} have the same support set",
        )
        self._check_seed(split, first)

    def _check_seed(self, split: Split, drawn: Episodes) -> None:
        """Check that another seed gives other tasks, or those of an official list and no more."""
        count = self.facts.tasks.get(split)
        same = torch.equal(drawn.support.x, self.draw(split, seed=SEED + 1).support.x)
        if count is None:
            why = f"split {split!r} draws the same tasks for another seed"
            self.subject.require(
                not same, f"{why}: where its tasks are an official list, say so in Facts.tasks"
            )
            return
        why = f"describe().tasks says that split {split!r} has {count} official tasks"
        self.subject.require(same, f"{why}, but another seed draws others")
        with self.subject.refusing(f"episodes of task number {count}", Invalid, why):
            self.source.episodes(split, self.protocol, [count], SEED)

    def check_manifest(self, split: Split) -> None:
        """Check that the manifest distinguishes tasks, row by row, in plain arrays."""
        with self.subject.doing(f"manifest({split!r}, …)"):
            manifest = self.source.manifest(split, self.protocol, range(TASKS), SEED)
            alone = self.source.manifest(split, self.protocol, [TASKS - 1], SEED)
        plain = isinstance(manifest, Mapping) and all(
            isinstance(v, np.ndarray) and v.dtype != object and v.shape[:1] == (TASKS,)
            for v in manifest.values()
        )
        self.subject.require(
            plain and bool(manifest),
            "manifest must return names with numpy arrays of a row per task, [T, …]",
        )
        rows = [
            b"".join(np.ascontiguousarray(v[t]).tobytes() for v in manifest.values()) for t in range(TASKS)
        ]
        self.subject.require(
            len(set(rows)) == TASKS, f"the manifest of split {split!r} is the same for different tasks"
        )
        self.subject.require(
            set(alone) == set(manifest)
            and all(np.array_equal(alone[name][0], rows[-1]) for name, rows in manifest.items()),
            f"the manifest of split {split!r} has another row for task number {TASKS - 1} in another slice",
        )

    def check_manifest_matches(self, split: Split, tasks: int) -> None:
        """Check that the manifest describes the tasks that are drawn."""
        drawn = self.draw(split, self.numbers(split, tasks))
        with self.subject.doing(f"manifest({split!r}, …)"):
            fault = manifest_fault(
                self.source,
                drawn,
                split,
                self.protocol,
                self.numbers(split, tasks),
                SEED,
                official=split in self.facts.tasks,
            )
        self.subject.require(
            fault is None,
            f"the manifest of split {split!r} describes other tasks than episodes draws: {fault}",
        )

    def check_readable(self, split: Split, tasks: int) -> None:
        """Check that no place of an image gives its label away."""
        if self.facts.outputs is not None or len(self.facts.input_shape) not in (2, 3):
            return
        places = readable_places(self.draw(split, self.numbers(split, tasks)), self.protocol.ways)
        self.subject.require(
            not places,
            f"labels of split {split!r} can be read from {len(places)} places of the image alone, such as "
            f"{''.join(places[:1])}: remove what marks the class there (a border, a stamp, a channel)",
        )

    def check_copies(self, splits: Sequence[Split], tasks: int) -> None:
        """Check that test images are no near copies of training images."""
        if not {"train", "test"} <= set(splits) or len(self.facts.input_shape) not in (2, 3):
            return
        images = []
        parts: tuple[Split, Split] = ("train", "test")
        for split in parts:
            drawn = self.draw(split, self.numbers(split, 2 * tasks))
            x = torch.cat([drawn.support.x, drawn.query.x], 1).flatten(0, 1)
            images.append(x if x.dim() == 4 else x.unsqueeze(1))
        copies = near_copies(*images)
        self.subject.require(
            copies <= COPIES,
            f"{copies:.0%} of the test images are near copies of training images: split by "
            "class before images are copied or augmented, and look with `metabench data verify`",
        )

    def check_randomness(self) -> None:
        """Check that no global RNG is read or advanced."""

        def states() -> list[bytes]:
            return [
                torch.get_rng_state().numpy().tobytes(), repr(random.getstate()).encode(),
                repr(np.random.get_state()).encode(),
            ]  # fmt: skip

        before = states()
        self.draw("test")
        self.subject.require(
            before == states(),
            "drawing tasks advances a global RNG (torch, numpy or random): use metabench.data.draws or "
            "an RNG of your own",
        )

    def check_batches(self) -> None:
        """Check labelled batches of meta-train: shapes, labels, draws; or Invalid where there are none."""
        batches = Batches(16, 8)
        require = self.subject.require
        try:
            first = self.source.batch(batches, range(4), SEED)
        except Invalid as error:
            require(
                self.facts.kind == "regression" or not self.facts.classes.get("train"),
                f"batch raises Invalid ({error}), but meta-train has a finite number of classes: return "
                "labelled micro-batches (metabench.data.TensorSource has them)",
            )
            return
        except Exception as error:
            with self.subject.doing("batch(batches, indices, seed)", CellEnd):
                raise error
        self._tensor("batch x", first.x, (4, 8, *self.facts.input_shape), self.device.dtype)
        self._tensor("batch y", first.y, (4, 8), torch.int64)
        count = self.facts.classes["train"]
        require(
            int(first.y.min()) >= 0 and int(first.y.max()) < count,
            f"batch y holds class numbers outside of 0 … {count - 1}, meta-train's classes",
        )
        again, part = self.source.batch(batches, range(4), SEED), self.source.batch(batches, [2], SEED)
        same = all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        sliced = all(torch.equal(a[2:3], b) for a, b in zip(first, part, strict=True))
        require(
            same and sliced,
            "batch draws other examples at another call or in another slice: a micro-batch is a pure "
            "function of its number and the seed",
        )

    def check_errors(self, split: Split) -> None:
        """Check that a protocol which the split cannot serve is refused with Invalid."""
        ways, images = self.facts.classes[split], self.facts.images[split]
        impossible = []
        if self.facts.kind == "regression":
            impossible.append((Protocol(2, 5, 5), "a regression task has 1 way"))
        if ways:
            impossible.append((Protocol(ways + 1, 1, 1), f"split {split!r} has {ways} classes"))
        if images:
            impossible.append((Protocol(2, images, 1), f"some class of split {split!r} has {images} images"))
        for protocol, because in impossible:
            with self.subject.refusing(f"episodes of {protocol}", Invalid, because):
                self.source.episodes(split, protocol, [0], SEED)

    def check_disjoint(self, splits: Sequence[Split], tasks: int) -> None:
        """Check that splits share no example."""
        seen: dict[bytes, Split] = {}
        for split in splits:
            drawn = self.draw(split, self.numbers(split, tasks))
            both = torch.cat([drawn.support.x, drawn.query.x], 1).flatten(0, 1).cpu().contiguous()
            if self.facts.kind == "regression":  # a number may appear twice, but not with its target
                target = torch.cat([drawn.support.y, drawn.query.y], 1).flatten(0, 1).cpu()
                both = torch.cat([both.flatten(1), target.flatten(1)], 1)
            for digest in {hashlib.sha256(example.numpy().tobytes()).digest() for example in both}:
                other = seen.setdefault(digest, split)
                self.subject.require(
                    other == split,
                    f"the splits {other!r} and {split!r} share an example: a test class in meta-train is a "
                    "leak; split by class (metabench.data.check_disjoint), and give each split its own key",
                )


def _same(episodes: Episodes, other: Episodes) -> bool:
    return all(torch.equal(a, b) for a, b in zip(_parts(episodes), _parts(other), strict=True))


def _parts(episodes: Episodes) -> list[Tensor]:
    return [*episodes.support, *episodes.query, episodes.classes, episodes.index]


def _rows(episodes: Episodes, rows: list[int]) -> Episodes:
    support, query = (Examples(part.x[rows], part.y[rows]) for part in (episodes.support, episodes.query))
    return Episodes(support, query, episodes.classes[rows], episodes.index[rows])


def _copy(episodes: Episodes) -> Episodes:
    support, query = (Examples(part.x.clone(), part.y.clone()) for part in episodes[:2])
    return Episodes(support, query, episodes.classes.clone(), episodes.index.clone())
