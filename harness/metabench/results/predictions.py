"""The prediction of every query of a cell's test tasks, in a file beside its result.

<results>/<suite>-v<version>/<cell id>.predictions.npz, a .npz without pickles or compression:

    about        JSON: version of this format, digest of the cell, the type of the predictions (`outputs`)
    shape        [tasks, 2]: queries, and numbers per prediction, of each task
    prediction   the predictions [queries, numbers] of each task, one task after the other, flat
    target       the targets of the same queries: class numbers, or values [queries, numbers]
    order        for each place of a task as it was predicted, the place of that query in the manifest

Queries lie in the order of the manifest; a task was predicted and scored in that of `order`.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from metabench.errors import StoreError
from metabench.folders import file_digest
from metabench.records.files import writing
from metabench.records.outputs import OUTPUTS, Outputs

VERSION = 1
LARGEST_BYTES = 4 * 2**30
"""A file beyond this size is refused unread; 10,000 tasks of 20 ways and 300 queries take 250 MB."""
KINDS: Mapping[str, str] = {"about": "u", "shape": "i", "prediction": "f", "target": "if", "order": "i"}
"""The arrays of a file, and the kinds of number that each may hold."""
MOST_HEADER = 4096
"""An array's header is shorter than this; numpy pads it to a multiple of 64 bytes."""

Array = NDArray[Any]


@dataclass(frozen=True)
class TaskPredictions:
    """One task as it was predicted: prediction [q, numbers], target [q] or [q, numbers], order [q]."""

    prediction: Array
    target: Array
    order: Array


@dataclass(frozen=True)
class Predictions:
    """The predictions of a cell's test tasks, or of a rank's share of them, in the order of the tasks."""

    cell: str
    outputs: Outputs
    tasks: Sequence[TaskPredictions]

    def write(self, path: Path) -> str:
        """Write the file and return its SHA-256; raises StoreError where it cannot be written."""
        about = {"predictions": VERSION, "cell": self.cell, "outputs": self.outputs}
        arrays: dict[str, Any] = {
            "about": np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8),
            "shape": np.array([task.prediction.shape for task in self.tasks], np.int32).reshape(-1, 2),
            "prediction": _joined(_in_manifest_order(task, task.prediction) for task in self.tasks),
            "target": _joined(_in_manifest_order(task, task.target) for task in self.tasks),
            "order": _joined((task.order for task in self.tasks), np.int32),
        }
        with writing(path), path.open("wb") as file:
            np.savez(file, **arrays)
        return file_digest(path)


def predictions_beside(result: Path) -> Path:
    """Return where the predictions of the result in a file lie, or would lie."""
    return result.with_name(f"{result.stem}.predictions.npz")


def join(parts: Iterable[Predictions]) -> Predictions:
    """Return the predictions of several shares, one after the other."""
    first, *others = parts
    tasks = [task for part in (first, *others) for task in part.tasks]
    return Predictions(first.cell, first.outputs, tasks)


def read_predictions(path: Path, digest: str = "") -> Predictions:
    """Return the predictions in a file, which is untrusted; digest: the SHA-256 that it must have.

    Raises StoreError, naming the file, where it is none that `Predictions.write` writes.
    """
    try:
        if not path.is_file():
            raise StoreError(f"{path}: no such file")
        if path.stat().st_size > LARGEST_BYTES:
            raise StoreError(f"{path}: predictions must be at most {LARGEST_BYTES // 2**20} MiB")
        if digest and file_digest(path) != digest:
            raise StoreError(f"{path}: not the predictions that its result was made from (another SHA-256)")
        with zipfile.ZipFile(path) as archive:
            arrays = dict(_arrays(archive))
        about = json.loads(arrays["about"].tobytes())
        if about["predictions"] != VERSION or about["outputs"] not in OUTPUTS:
            raise ValueError(f"it states {about!r:.200}")
        return Predictions(str(about["cell"]), about["outputs"], list(_tasks(arrays)))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path}: no predictions: {error}") from error


def _arrays(archive: zipfile.ZipFile) -> Iterator[tuple[str, Array]]:
    """Yield the arrays of a file; no more is read than its members hold, and nothing is unpacked."""
    members = archive.infolist()
    names = {f"{name}.npy" for name in KINDS}
    if len(members) != len(names) or {member.filename for member in members} != names:
        raise ValueError(f"its arrays must be {', '.join(KINDS)}")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"{member.filename} must not be compressed")
        name = member.filename.removesuffix(".npy")
        yield name, _array(archive.read(member), KINDS[name])


def _array(content: bytes, kinds: str) -> Array:
    """Return the array in the bytes of a .npy, whose header is checked against their number first."""
    stream: IO[bytes] = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array must be of the .npy format 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=MOST_HEADER)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if dtype.hasobject or dtype.kind not in kinds or fortran or size != len(content) - stream.tell():
        raise ValueError(f"an array states the type {dtype} and the shape {shape}, which it does not have")
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape)


def _tasks(arrays: Mapping[str, Array]) -> Iterator[TaskPredictions]:
    """Yield each task in the order in which it was predicted."""
    shape, prediction, target, order = (arrays[name] for name in ("shape", "prediction", "target", "order"))
    if shape.ndim != 2 or shape.shape[1] != 2 or (shape < 1).any():
        raise ValueError("shape must hold two numbers ≥ 1 for each task")
    counts = shape.astype(np.int64)
    queries, numbers = int(counts[:, 0].sum()), int(counts.prod(1).sum())
    of_classes = target.dtype.kind == "i"
    lengths = (prediction.size, target.size, order.size)
    if lengths != (numbers, queries if of_classes else numbers, queries):
        raise ValueError(f"the arrays have {lengths} elements, which the shapes of the tasks do not give")
    first_query = first_number = 0
    for q, width in counts.tolist():
        places = order[first_query : first_query + q]
        if not np.array_equal(np.sort(places), np.arange(q)):
            raise ValueError("order must hold each place of a task once")
        values = prediction[first_number : first_number + q * width].reshape(q, width)
        truth = (
            target[first_query : first_query + q]
            if of_classes
            else target[first_number : first_number + q * width].reshape(q, width)
        )
        yield TaskPredictions(values[places], truth[places], places)
        first_query, first_number = first_query + q, first_number + q * width


def _in_manifest_order(task: TaskPredictions, values: Array) -> Array:
    laid = np.empty_like(values)
    laid[task.order] = values
    return laid


def _joined(arrays: Iterable[Array], dtype: type | None = None) -> Array:
    """Return the elements of all arrays, one after the other; a rank without tasks has none."""
    flat = [array.reshape(-1) for array in arrays] or [np.empty(0, dtype or np.float32)]
    return np.concatenate(flat, dtype=dtype, casting="same_kind")
