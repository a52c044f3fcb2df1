"""What tasks consist of, in a file: other software can evaluate on exactly the same tasks.

A manifest is a .npz without pickles. Its arrays are those of `Source.manifest`; for classification

    classes [T, ways], support [T, shots·ways], query [T, queries·ways], index [T]

where place j of support and of query belongs to the task's class j mod ways. Where tasks differ in shape, a
row is as long as the longest, and -1 stands where a task has nothing; shots [T, ways] says how many support
images each class has: the support holds the first image of each class, then the second of those that have
one, and so on.

`about` is JSON: the data set, its settings, split, protocol and seed, and for classification the split's
classes by name, each with the number of its first image and how many it has. Image numbers count the images
of a class in the order of their file names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metabench.errors import DataError
from metabench.records.cell import Spec, Split
from metabench.records.protocol import Protocol, VariedProtocol, protocol_from_json
from metabench.records.task_classes import TaskClasses

if TYPE_CHECKING:
    from metabench.contracts import Episodes, Source

VERSION = 1
NOTHING = -1
"""Stands in a manifest where a task of another shape has a class or an image."""


@dataclass(frozen=True)
class Manifest:
    """The tasks of one split, protocol and seed of a data set."""

    dataset: Spec
    split: Split
    protocol: Protocol
    seed: int
    classes: Sequence[Mapping[str, Any]]  # name, first, count, turns of each class; empty for regression
    arrays: Mapping[str, np.ndarray[Any, Any]]

    def __len__(self) -> int:
        return len(self.arrays["index"])

    def write(self, path: Path) -> None:
        """Write the manifest as a .npz."""
        about = {
            "manifest": VERSION,
            "dataset": asdict(self.dataset),
            "split": self.split,
            "protocol": asdict(self.protocol),
            "seed": self.seed,
            "classes": list(self.classes),
        }
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        arrays: dict[str, Any] = {"about": text, **self.arrays}
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def difference(self, other: Manifest) -> str | None:
        """Return the first difference between this manifest's tasks and another's, or None."""
        for name in ("split", "protocol", "classes"):
            if getattr(self, name) != getattr(other, name):
                return f"{name} differs"
        if set(self.arrays) != set(other.arrays):
            return f"the arrays {', '.join(self.arrays)} differ from {', '.join(other.arrays)}"
        for name, values in self.arrays.items():
            if not np.array_equal(values, other.arrays[name]):
                return f"the array {name!r} differs"
        return None

    def episodes(self, source: Source, tasks: range | None = None) -> Episodes:
        """Return the tensors of these tasks (places in the manifest; all by default) from a loaded data set.

        Raises DataError if the source's classes or data are not those of the manifest, or if the tasks differ
        in shape.
        """
        from metabench.data.classes import Drawn
        from metabench.data.tensor_source import TensorSource

        if not isinstance(source, TensorSource):
            raise DataError(f"{self.dataset.name!r} has no images: draw its tasks by number instead")
        if _classes(source, self.split) != list(self.classes):
            raise DataError(
                f"the classes of split {self.split!r} of {self.dataset.name!r} here are not the manifest's"
            )
        part = slice(tasks.start, tasks.stop, tasks.step) if tasks is not None else slice(None)
        content = self.arrays.get("content", np.empty(0, np.uint8))
        if content.size and content[0].tobytes() != source.content.tobytes():
            raise DataError(f"the data of {self.dataset.name!r} here is not that of the manifest")
        drawn = Drawn(*(_own_part(self.arrays[name][part]) for name in Drawn._fields))
        return source.gather(
            self.split, drawn, self.arrays["index"][part].tolist(), class_shots=self._class_shots(part)
        )

    def _class_shots(self, part: slice) -> tuple[int, ...]:
        """Return the shots of each class of tasks of one shape; empty where all classes have the same."""
        if "shots" not in self.arrays:
            return ()
        shots = np.unique(_own_part(self.arrays["shots"][part]), axis=0)
        if len(shots) > 1:
            raise DataError("the tasks asked for differ in shape: ask for those of one shape at a time")
        return () if len(set(shots[0].tolist())) == 1 else tuple(shots[0].tolist())


def tasks_digest(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Return the SHA-256 of what tasks are made of: of the arrays that `Source.manifest` gives."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}:{array.shape}:{array.dtype.str}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def drawn_digest(source: Source, split: Split, protocol: Protocol, tasks: int, seed: int) -> str:
    """Return the SHA-256 of what tasks 0 … tasks - 1 are made of; of different shapes, over those of each."""
    if not isinstance(protocol, VariedProtocol):
        return tasks_digest(source.manifest(split, protocol, range(tasks), seed))
    from metabench.data.shapes import shape_of

    digest = hashlib.sha256()
    for index in range(tasks):
        shape = shape_of(source, split, protocol, index, seed)
        digest.update(tasks_digest(source.manifest(split, shape, [index], seed)).encode())
    return digest.hexdigest()


def task_classes(
    source: Source, split: Split, protocol: Protocol, tasks: int, seed: int
) -> TaskClasses | None:
    """Return which classes the tasks 0 … tasks - 1 consist of; None where they have none by number."""
    from metabench.data.shapes import groups

    of_tasks: dict[int, list[int]] = {}
    for shape, numbers in groups(source, split, protocol, range(tasks), seed):
        drawn = source.manifest(split, shape, numbers, seed).get("classes")
        if drawn is None or not drawn.size:
            return None
        of_tasks |= zip(numbers, drawn.tolist(), strict=True)
    units = source.class_units(split)
    if units is None:
        return TaskClasses.of([of_tasks[number] for number in range(tasks)])
    listed = [[int(units.units[c]) for c in of_tasks[number]] for number in range(tasks)]
    of_units = dict(zip(units.units, units.groups, strict=True)) if units.groups else {}
    return TaskClasses.of(listed, [of_units[unit] for unit in range(len(of_units))])


def make_manifest(
    dataset: Spec, source: Source, split: Split, protocol: Protocol, tasks: Sequence[int], seed: int
) -> Manifest:
    """Return the manifest of these tasks of a loaded data set."""
    if isinstance(protocol, VariedProtocol):
        arrays = _arrays_of_shapes(source, split, protocol, tasks, seed)
    else:
        arrays = dict(source.manifest(split, protocol, tasks, seed))
    return Manifest(dataset, split, protocol, seed, _classes(source, split), arrays)


def _arrays_of_shapes(
    source: Source, split: Split, protocol: Protocol, tasks: Sequence[int], seed: int
) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of tasks of different shapes, each row filled up with -1."""
    from metabench.data.shapes import shape_of

    drawn = []
    for index in tasks:
        shape = shape_of(source, split, protocol, index, seed)
        shots = np.full((1, shape.ways), shape.shots, np.int64)
        drawn.append({"shots": shots, **source.manifest(split, shape, [index], seed)})
    return {name: _filled_up([arrays[name] for arrays in drawn]) for name in drawn[0]}


def _filled_up(rows: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return rows [1, …] of different lengths as one array, with -1 after the end of the shorter ones."""
    if len({row.shape[1:] for row in rows}) == 1:
        return np.concatenate(rows)
    longest = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, 0), (0, longest - row.shape[1])), constant_values=NOTHING) for row in rows]
    )


def _own_part(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the rows of tasks of one shape without what they were filled up with."""
    own = rows[:, (rows != NOTHING).any(0)]
    if (own == NOTHING).any():
        raise DataError("the tasks asked for differ in shape: ask for those of one shape at a time")
    return own


def read_manifest(path: Path) -> Manifest:
    """Read a manifest that `Manifest.write` wrote; raises DataError on anything else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays.pop("about").tobytes())
        if about["manifest"] != VERSION:
            raise DataError(f"{path} must be a manifest of version {VERSION}, got {about['manifest']}")
        spec = Spec(about["dataset"]["name"], about["dataset"]["settings"])
        protocol = protocol_from_json(about["protocol"])
        seed, classes = int(about["seed"]), about["classes"]
        len(arrays["index"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a manifest of tasks ({type(error).__name__}: {error})") from error
    return Manifest(spec, about["split"], protocol, seed, classes, arrays)


def _classes(source: Source, split: Split) -> list[Mapping[str, Any]]:
    from metabench.data.tensor_source import TensorSource

    if not isinstance(source, TensorSource):
        return []
    index = source.splits[split]
    rows = zip(index.names, index.first, index.count, index.turns, strict=True)
    return [{"name": n, "first": int(f), "count": int(c), "turns": int(t)} for n, f, c, t in rows]
