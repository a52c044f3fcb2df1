"""Which images belong to which class of a split, and which images a task consists of."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metabench.contracts import ClassUnits
from metabench.data import draws
from metabench.errors import DataError, Invalid
from metabench.records.cell import Split
from metabench.records.protocol import Protocol, UnevenProtocol


class Drawn(NamedTuple):
    """What tasks consist of: classes [T, ways]; support [T, shots·ways] and query [T, queries·ways] images.

    Images are numbered by row of the data set. Place j of support (and of query) belongs to the task's
    class j mod ways; `metabench.data.order` shuffles tasks before a learner gets them.
    """

    classes: draws.Numbers
    support: draws.Numbers
    query: draws.Numbers


@dataclass(frozen=True, eq=False)
class ClassIndex:
    """The classes of one split; the images of a class lie next to each other in the data set.

    names: [classes] unique names; first: [classes] number of each class's first image; count: [classes]
    how many it has; turns: [classes] quarter turns by which its images are rotated (counter-clockwise);
    groups: [classes] what each class comes from (its alphabet), or without elements.
    """

    names: tuple[str, ...]
    first: draws.Numbers
    count: draws.Numbers
    turns: draws.Numbers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("first", "count", "turns"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int64))
        if self.turns.size == 0:
            object.__setattr__(self, "turns", np.zeros(len(self.names), dtype=np.int64))
        duplicates = repeated(self.names)
        if duplicates:
            raise DataError(f"class names of a split must be unique, got {duplicates[0]!r} twice")
        empty = [name for name, count in zip(self.names, self.count, strict=True) if count < 1]
        if empty:
            raise DataError(f"the class {empty[0]!r} has no images; remove it or add images")

    @classmethod
    def of_counts(cls, names: Sequence[str], counts: Sequence[int], first: int = 0) -> "ClassIndex":
        """Return an index of classes that lie one after the other, from image number `first` on."""
        count = np.asarray(counts, dtype=np.int64)
        return cls(tuple(names), first + np.cumsum(count) - count, count)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def fewest(self) -> int:
        """Return the number of images of the smallest class."""
        return int(self.count.min()) if len(self) else 0

    def only(self, names: Sequence[str]) -> "ClassIndex":
        """Return the index of these classes alone, in this order; raises DataError if a class is absent."""
        place_of = {name: place for place, name in enumerate(self.names)}
        absent = [name for name in names if name not in place_of]
        if absent:
            raise DataError(
                f"{len(absent)} of {len(names)} classes are absent from the data, such as {absent[0]!r}"
            )
        places = [place_of[name] for name in names]
        groups = tuple(self.groups[place] for place in places) if self.groups else ()
        return ClassIndex(tuple(names), self.first[places], self.count[places], self.turns[places], groups)

    def rotated(self) -> "ClassIndex":
        """Return four classes for each class: turned by 0, 90, 180 and 270 degrees (Vinyals et al. 2016)."""
        names = tuple(f"{name}/rot{90 * turn:03d}" for turn in range(4) for name in self.names)
        turns = np.repeat(np.arange(4), len(self))
        return ClassIndex(names, np.tile(self.first, 4), np.tile(self.count, 4), turns, self.groups * 4)

    def units(self) -> ClassUnits:
        """Return what an interval for new classes redraws: classes that share their images are one unit."""
        units = np.unique(self.first, return_inverse=True)[1]
        if not self.groups:
            return ClassUnits(units.tolist())
        numbers = {group: number for number, group in enumerate(dict.fromkeys(self.groups))}
        return ClassUnits(units.tolist(), [numbers[group] for group in self.groups])

    def draw(self, key: int, protocol: Protocol, indices: Sequence[int]) -> Drawn:
        """Draw the tasks of these numbers. A task's stream 0 draws classes, stream 1 + w images of way w."""
        ways, shots, taken = protocol.ways, protocol.shots, protocol.shots + protocol.queries
        self._allow(ways, taken)
        parts = draws.streams(key, indices, 1 + ways)
        classes = draws.distinct(parts[:, 0], ways, len(self))
        bounds = self.count[classes]
        images = draws.distinct_within(parts[:, 1:], taken, bounds, self.fewest, int(self.count.max()))
        images += self.first[classes][..., None]
        by_place = images.transpose(0, 2, 1)  # [T, shots + queries, ways]
        tasks = len(classes)
        support = by_place[:, :shots].reshape(tasks, -1)
        if isinstance(protocol, UnevenProtocol):
            support = support[:, rows_of_shots(protocol.class_shots).reshape(-1)]
        return Drawn(classes, support, by_place[:, shots:].reshape(tasks, -1))

    def series(self, key: int, places: draws.Numbers) -> tuple[draws.Numbers, draws.Numbers]:
        """Return classes and images at these places of an endless series of shuffles of all images."""
        ends = np.cumsum(self.count)
        place = draws.permuted(key, places, int(ends[-1]))
        classes = np.searchsorted(ends, place, side="right")
        return classes, self.first[classes] + place - (ends - self.count)[classes]

    def _allow(self, ways: int, taken: int) -> None:
        if ways > len(self):
            raise Invalid(f"ways must be at most {len(self)}, the classes of the split, got {ways}")
        if taken > self.fewest:
            poorest = self.names[int(self.count.argmin())]
            raise Invalid(
                f"shots + queries must be at most {self.fewest}, the images of the class {poorest!r}, got "
                f"{taken}; ask for fewer, or leave that class out"
            )


def rows_of_shots(class_shots: Sequence[int]) -> NDArray[np.bool_]:
    """Return which classes have a first, second, … support example: [most shots, ways]."""
    return np.arange(max(class_shots))[:, None] < np.asarray(class_shots)


def check_disjoint(splits: Mapping[Split, ClassIndex]) -> None:
    """Raise DataError if two splits share a class name or an image."""
    for (split, index), (other_split, other_index) in combinations(splits.items(), 2):
        shared = sorted(set(index.names) & set(other_index.names))
        if shared:
            listed = ", ".join(repr(name) for name in shared[:3])
            raise DataError(
                f"the splits {split} and {other_split} share {len(shared)} classes, such as {listed}"
            )
        both = np.intersect1d(_images(index), _images(other_index))
        if both.size:
            raise DataError(
                f"the splits {split} and {other_split} share {both.size} images, such as {both[0]}"
            )


def arrange(labelled: Mapping[str, str]) -> tuple[ClassIndex, dict[str, int]]:
    """Return an index of all classes and the row of each file, from the class of each file.

    Classes, and the files of a class, are in the order of their names, on every machine.
    """
    files = sorted(labelled, key=lambda file: (labelled[file], unicodedata.normalize("NFC", file)))
    counts: dict[str, int] = {}
    for file in files:
        counts[labelled[file]] = counts.get(labelled[file], 0) + 1
    index = ClassIndex.of_counts(list(counts), list(counts.values()))
    return index, {file: row for row, file in enumerate(files)}


def class_name(text: str) -> str:
    """Return a name in Unicode's composed form (NFC), without surrounding blanks.

    The same name is stored composed on most systems and decomposed on others; classes, files and lists are
    compared and sorted in this form.
    """
    return unicodedata.normalize("NFC", text).strip()


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that appear again, in order."""
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]


def _images(index: ClassIndex) -> draws.Numbers:
    return np.unique(
        np.concatenate(
            [np.arange(f, f + n) for f, n in zip(index.first, index.count, strict=True)]
            or [np.empty(0, np.int64)]
        )
    )
