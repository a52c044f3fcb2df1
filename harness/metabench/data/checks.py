"""Whether a data set is what it should be: digests, counts, and nothing shared between splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metabench.errors import MetabenchError

if TYPE_CHECKING:
    from metabench.contracts import Dataset, Source

SHOWN = 5  # pairs of like images that are told one by one


@dataclass(frozen=True)
class DataFinding:
    """One line of a verification: what was found, and whether it is a fault."""

    text: str
    fault: bool = False

    def __str__(self) -> str:
        return f"{'FAULT' if self.fault else 'ok   '} {self.text}"


def verify(dataset: Dataset) -> Iterator[DataFinding]:
    """Findings in turn: files, classes and images of each split, like images across splits.

    Like images are told and are no fault: published data sets have some, and their splits are standards.
    """
    missing = dataset.missing()
    if missing is not None:
        yield DataFinding(missing, fault=True)
        return
    broken = False
    for finding in _files(dataset):
        broken = broken or finding.fault
        yield finding
    if broken:
        return
    from metabench.device.device import Device  # torch comes only where there is something to load

    try:
        source = dataset.load(Device())
    except MetabenchError as error:
        yield DataFinding(str(error), fault=True)
        return
    yield from _counts(dataset, source)
    yield from _alike(source)


def _files(dataset: Dataset) -> Iterator[DataFinding]:
    from metabench.data.remote import FilesDataset
    from metabench.folders import file_digest

    for file in dataset.files() if isinstance(dataset, FilesDataset) else ():
        fault = file.fault()
        if fault is not None:
            yield DataFinding(f"{fault}; remove it and run `metabench data fetch {dataset.name}`", fault=True)
        elif file.sha256 or file.md5:
            yield DataFinding(f"{file.place}: the digest is right")
        else:
            yield DataFinding(f"{file.place}: no digest is known; its sha256 is {file_digest(file.place)}")


def _counts(dataset: Dataset, source: Source) -> Iterator[DataFinding]:
    from metabench.data.tensor_source import TensorSource

    if not isinstance(source, TensorSource):
        yield DataFinding("tasks are drawn by a formula: there are no classes to share")
        return
    facts = dataset.describe()
    for split, index in source.splits.items():
        classes, images = facts.classes.get(split, 0), facts.images.get(split, 0)
        told = f"{split}: {len(index)} classes of {index.fewest} images or more"
        right = len(index) == classes and index.fewest >= images
        yield DataFinding(told if right else f"{told}; described are {classes} of {images}", fault=not right)
    yield DataFinding("no class and no image is in two splits")


def _alike(source: Source) -> Iterator[DataFinding]:
    from metabench.data.duplicates import near_duplicates
    from metabench.data.tensor_source import TensorSource

    if not isinstance(source, TensorSource) or not source.is_image:
        return
    pairs = near_duplicates(source.examples.numpy(), source.splits)
    for pair in pairs[:SHOWN]:
        one, other = (f"{split}/{name} image {number}" for split, name, number in (pair.one, pair.other))
        yield DataFinding(f"{one} looks like {other} ({pair.likeness:.3f})")
    yield DataFinding(f"{len(pairs)} pairs of images in different splits look the same")
