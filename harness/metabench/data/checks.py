"""Whether a data set is what it should be: files, classes, blank, equal and like examples, and its tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

from metabench.errors import MetabenchError
from metabench.records.cell import Facts, Split
from metabench.records.protocol import Protocol

if TYPE_CHECKING:
    import numpy as np

    from metabench.contracts import Dataset, Source
    from metabench.data.classes import ClassIndex
    from metabench.data.tensor_source import TensorSource

SHOWN = 5  # findings of one kind that are listed
TASKS = 32  # of each split that are drawn and looked at
SEED = 2026

Level = Literal["ok", "note", "FAULT"]


@dataclass(frozen=True)
class DataFinding:
    """One line of a verification: what was looked at and is right, what to know, or what is wrong."""

    text: str
    level: Level = "ok"

    def __str__(self) -> str:
        return f"{self.level:5} {self.text}"


def verify(dataset: Dataset) -> Iterator[DataFinding]:
    """Yield findings: files, classes and examples of each split, tasks, like images across splits.

    Like images are notes and no faults: published data sets have some, and their splits are standards.
    """
    missing = dataset.missing()
    if missing is not None:
        yield DataFinding(missing, "FAULT")
        return
    findings = list(_files(dataset))
    yield from findings
    if any(finding.level == "FAULT" for finding in findings):
        return
    from metabench.data.tensor_source import TensorSource
    from metabench.device.device import Device  # torch comes only if there is something to load

    try:
        source, facts = dataset.load(Device()), dataset.describe()
    except MetabenchError as error:
        yield DataFinding(str(error), "FAULT")
        return
    if isinstance(source, TensorSource):
        yield from _counts(facts, source)
        yield from _contents(source)
        yield from _alike(source)
    yield from _tasks(facts, source)


def _files(dataset: Dataset) -> Iterator[DataFinding]:
    from metabench.data.remote import FilesDataset
    from metabench.folders import file_digest

    for file in dataset.files() if isinstance(dataset, FilesDataset) else ():
        fault = file.fault()
        if fault is not None:
            remedy = f"remove it and run `metabench data fetch {dataset.name}`"
            yield DataFinding(f"{fault}; {remedy}", "FAULT")
        elif not (file.sha256 or file.md5):
            digest = file_digest(file.place)
            yield DataFinding(f"{file.place}: no digest is known; its sha256 is {digest}", "note")
        elif file.has_known_bytes():
            yield DataFinding(f"{file.place}: the digest is right")
        else:
            yield DataFinding(f"{file.place}: the content is right, packed in another way")


def _counts(facts: Facts, source: TensorSource) -> Iterator[DataFinding]:
    what = "images" if source.is_image else "examples"
    for split, index in source.splits.items():
        classes, images = facts.classes.get(split, 0), facts.images.get(split, 0)
        counts = f"{split}: {len(index)} classes of {index.fewest} {what} or more"
        if len(index) == classes and index.fewest >= images:
            yield DataFinding(counts)
        else:
            yield DataFinding(f"{counts}; described are {classes} of {images}", "FAULT")
    yield DataFinding(f"no class and no {what[:-1]} is in two splits")  # or loading would have failed


def _contents(source: TensorSource) -> Iterator[DataFinding]:
    """Classes that are blank or equal, and examples that are equal."""
    examples = source.examples.numpy()
    rows = {
        f"{split}/{name}": range(int(first), int(first + count))
        for split, index in source.splits.items()
        for name, first, count in _plain_classes(index)
    }
    digests = {name: [_digest(examples[row]) for row in numbers] for name, numbers in rows.items()}
    blank = [name for name, numbers in rows.items() if all(_is_even(examples[row]) for row in numbers)]
    yield from _some(
        blank, "the class {} is blank: each example has one value throughout", "no class is blank"
    )
    by_content: dict[tuple[bytes, ...], list[str]] = {}
    for name, own in digests.items():
        by_content.setdefault(tuple(sorted(own)), []).append(name)
    equal = [" and ".join(names[:3]) for names in by_content.values() if len(names) > 1]
    yield from _some(equal, "the classes {} hold the same examples", "no two classes hold the same examples")
    within = [
        f"{name} ({len(own) - len(set(own))})" for name, own in digests.items() if len(set(own)) < len(own)
    ]
    owners = Counter(digest for own in digests.values() for digest in set(own))
    between = [name for name, own in digests.items() if any(owners[digest] > 1 for digest in own)]
    yield from _some(within, "the class {} holds equal examples", "no class holds equal examples", "note")
    yield from _some(
        between,
        "the class {} shares an example with another class",
        "no two classes share an example",
        "note",
    )


def _some(names: Sequence[str], text: str, none: str, level: Level = "FAULT") -> Iterator[DataFinding]:
    if not names:
        yield DataFinding(none)
    for name in names[:SHOWN]:
        yield DataFinding(text.format(name), level)
    if len(names) > SHOWN:
        yield DataFinding(f"and {len(names) - SHOWN} more: {text.format('…')}", level)


def _plain_classes(index: ClassIndex) -> Iterator[tuple[str, int, int]]:
    """Yield name, first row and count of each class; turned copies of a class are left out."""
    for name, first, count, turn in zip(index.names, index.first, index.count, index.turns, strict=True):
        if turn == 0:
            yield name, int(first), int(count)


def _digest(example: np.ndarray[Any, Any]) -> bytes:
    import hashlib

    return hashlib.blake2b(example.tobytes(), digest_size=16).digest()


def _is_even(example: np.ndarray[Any, Any]) -> bool:
    """Return whether an image has one colour, or a vector one value, throughout."""
    channels = example.reshape(len(example) if example.ndim == 3 else 1, -1)
    return channels.shape[1] > 1 and bool((channels == channels[:, :1]).all())


def _alike(source: TensorSource) -> Iterator[DataFinding]:
    from metabench.data.duplicates import near_duplicates

    if not source.is_image:
        return
    pairs = near_duplicates(source.examples.numpy(), source.splits)
    for pair in pairs[:SHOWN]:
        first, second = (f"{split}/{name} image {number}" for split, name, number in (pair.one, pair.other))
        yield DataFinding(f"{first} looks like {second} ({pair.likeness:.3f})", "note")
    level: Level = "note" if pairs else "ok"
    yield DataFinding(f"{len(pairs)} pairs of images in different splits look the same", level)


def _tasks(facts: Facts, source: Source) -> Iterator[DataFinding]:
    """Tasks of each split as a learner gets them: finite, not constant, and no example in two splits."""
    seen: dict[Split, set[bytes]] = {}
    for split in facts.classes:
        protocol = _protocol(facts, split)
        tasks = min(TASKS, facts.tasks.get(split, TASKS))
        try:
            drawn = source.episodes(split, protocol, range(tasks), SEED)  # type: ignore[arg-type]
        except MetabenchError as error:
            yield DataFinding(f"{split}: no task can be drawn: {error}", "FAULT")
            continue
        parts = [part.flatten(0, 1).cpu() for part in (drawn.support.x, drawn.query.x)]
        values = [part.flatten(0, 1).cpu() for part in (drawn.support.y, drawn.query.y)]
        if not all(bool(part.isfinite().all()) for part in (*parts, *(y.float() for y in values))):
            yield DataFinding(f"{split}: a task holds a value that is no finite number", "FAULT")
            continue
        rows = [
            x.numpy().tobytes() + (y.numpy().tobytes() if facts.kind == "regression" else b"")
            for xs, ys in zip(parts, values, strict=True)
            for x, y in zip(xs, ys, strict=True)
        ]
        seen[split] = set(rows)  # type: ignore[index]
        if len(set(rows)) == 1:
            yield DataFinding(f"{split}: all examples of {tasks} tasks are equal", "FAULT")
        else:
            yield DataFinding(f"{split}: {tasks} tasks were drawn and hold finite numbers")
    yield from _shared(seen)


def _shared(seen: Mapping[Split, set[bytes]]) -> Iterator[DataFinding]:
    shared = {(a, b): len(seen[a] & seen[b]) for a, b in combinations(seen, 2)}
    for (a, b), count in shared.items():
        if count:
            yield DataFinding(f"{count} examples of tasks of {a} are in tasks of {b} too", "note")
    if shared and not any(shared.values()):
        yield DataFinding("no example of these tasks is in two splits")


def _protocol(facts: Facts, split: str) -> Protocol:
    """The task of up to 5 ways, 1 shot and up to 5 queries that a split can give."""
    if facts.kind == "regression":
        return Protocol(1, 5, 5)
    classes, images = facts.classes[split] or 5, facts.images[split] or 6
    return Protocol(min(5, classes), 1, max(1, min(5, images - 1)))
