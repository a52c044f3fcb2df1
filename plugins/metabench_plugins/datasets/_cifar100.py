"""CIFAR-100 from its binary version, which holds no pickle; the source of `cifar-fs` and `fc100`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metabench import DataError
from metabench.data import ClassIndex, RemoteFile, cached, fingerprint_of, members

ARCHIVE = RemoteFile(
    "cifar-100/cifar-100-binary.tar.gz",
    (
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "https://cave.cs.toronto.edu/kriz/cifar-100-binary.tar.gz",
    ),
    sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    most=1 << 28,
)
MEAN, STD = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)  # of the channels of its training part
CLASSES, SUPERCLASSES, IMAGES_PER_CLASS = 100, 20, 600
SHAPE = (3, 32, 32)
RECORD = 2 + 3072  # bytes: superclass, class, then 1,024 values of red, of green and of blue


def load_cifar() -> tuple[np.ndarray[Any, Any], ClassIndex, Mapping[str, Sequence[str]]]:
    """Return the 60,000 images by class, the classes in order of name, and the classes of each superclass.

    Class names and superclasses come from a small second cached array.
    """
    name = f"cifar-100-{fingerprint_of((ARCHIVE,), 1)}"
    images = cached(name, (CLASSES * IMAGES_PER_CLASS, *SHAPE), _fill)
    text = cached(f"{name}-names", (1 << 14,), _fill_names)
    fine, coarse, parent = (line.split() for line in bytes(text).rstrip(b"\0").decode().split("\n"))
    index = ClassIndex.of_counts(fine, [IMAGES_PER_CLASS] * CLASSES)
    below = {coarse[c]: [fine[f] for f, p in enumerate(parent) if int(p) == c] for c in range(SUPERCLASSES)}
    return images, index, below


def _fill(out: np.ndarray[Any, Any]) -> None:
    _, _, records = _records()
    order = np.argsort(records[:, 1], kind="stable")  # upstream numbers classes by their names
    for first in range(0, len(order), 4096):
        rows = order[first : first + 4096]
        out[first : first + len(rows)] = records[rows, 2:].reshape(-1, *SHAPE)


def _fill_names(out: np.ndarray[Any, Any]) -> None:
    fine, coarse, records = _records()
    parent = np.zeros(CLASSES, dtype=np.int64)
    parent[records[:, 1]] = records[:, 0]
    text = "\n".join([" ".join(fine), " ".join(coarse), " ".join(map(str, parent))]).encode()
    out[:] = 0
    out[: len(text)] = np.frombuffer(text, np.uint8)


def _records() -> tuple[list[str], list[str], np.ndarray[Any, Any]]:
    path = ARCHIVE.place
    files: dict[str, bytes] = {}
    for name, content in members(path, lambda name: name.endswith((".bin", "_label_names.txt"))):
        files[name.rpartition("/")[2]] = content
    absent = {"train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt"} - set(files)
    if absent:
        raise DataError(f"{path} lacks {', '.join(sorted(absent))}; fetch it again")
    content = files["train.bin"] + files["test.bin"]
    fine, coarse = (files[f"{kind}_label_names.txt"].decode().split() for kind in ("fine", "coarse"))
    if len(content) != CLASSES * IMAGES_PER_CLASS * RECORD or (len(fine), len(coarse)) != (
        CLASSES,
        SUPERCLASSES,
    ):
        raise DataError(f"{path} is not CIFAR-100's binary version; fetch it again")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    counts = np.bincount(records[:, 1], minlength=CLASSES)
    if fine != sorted(fine) or counts.shape != (CLASSES,) or (counts != IMAGES_PER_CLASS).any():
        raise DataError(f"{path} does not have {IMAGES_PER_CLASS} images of each of its {CLASSES} classes")
    return fine, coarse, records
