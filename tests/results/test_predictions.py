"""Stored predictions: read back as they were, and nothing else is read."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metabench.errors import StoreError
from metabench.results.predictions import Predictions, TaskPredictions, join, read_predictions

Arrays = dict[str, Any]


def task(seed: int, queries: int, ways: int, dtype: str = "float32") -> TaskPredictions:
    rng = np.random.default_rng(seed)
    prediction = rng.normal(size=(queries, ways)).astype(dtype)
    return TaskPredictions(prediction, rng.integers(ways, size=queries), rng.permutation(queries))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_predictions_of_tasks_of_any_shape_are_read_back_to_the_bit(dtype: str, tmp_path: Path) -> None:
    tasks = [task(0, 15, 3, dtype), task(1, 15, 3, dtype), task(2, 8, 5, dtype)]
    path = tmp_path / "p.npz"

    digest = Predictions("a" * 64, "logits", tasks).write(path)
    stored = read_predictions(path, digest)

    assert (stored.cell, stored.outputs) == ("a" * 64, "logits")
    for before, after in zip(tasks, stored.tasks, strict=True):
        assert after.prediction.dtype == dtype
        assert all(
            np.array_equal(a, b) for a, b in zip(vars(before).values(), vars(after).values(), strict=True)
        )


def test_rank_without_a_task_adds_none(tmp_path: Path) -> None:
    shares = [[task(0, 6, 3)], [], [task(1, 6, 3)]]
    for rank, tasks in enumerate(shares):
        Predictions("", "logits", tasks).write(tmp_path / f"{rank}.npz")

    parts = [read_predictions(tmp_path / f"{rank}.npz") for rank in range(len(shares))]

    assert [len(part.tasks) for part in parts] == [1, 0, 1]
    assert len(join(parts).tasks) == 2


def test_values_of_regression_have_targets_of_their_shape(tmp_path: Path) -> None:
    values = np.arange(12.0).reshape(6, 2)
    path = tmp_path / "p.npz"

    Predictions("", "values", [TaskPredictions(values, values + 1, np.arange(6)[::-1])]).write(path)
    (stored,) = read_predictions(path).tasks

    assert np.array_equal(stored.target, values + 1)


def test_file_holds_queries_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    prediction = np.array([[0.0, 0.5], [1.0, 0.5], [2.0, 0.5]])
    path = tmp_path / "p.npz"

    Predictions("", "scores", [TaskPredictions(prediction, np.array([5, 6, 7]), np.array([2, 0, 1]))]).write(
        path
    )

    with np.load(path) as arrays:
        assert arrays["target"].tolist() == [6, 7, 5]
        assert arrays["prediction"].tolist() == [1.0, 0.5, 2.0, 0.5, 0.0, 0.5]
        assert arrays["order"].tolist() == [2, 0, 1]


def test_shares_of_ranks_are_joined_in_their_order() -> None:
    parts = [Predictions("c", "logits", [task(n, 4, 2)]) for n in range(3)]

    joined = join(parts)

    assert [t.prediction.tobytes() for t in joined.tasks] == [p.tasks[0].prediction.tobytes() for p in parts]


def arrays_of(path: Path) -> Arrays:
    Predictions("a" * 64, "logits", [task(0, 4, 2)]).write(path)
    with np.load(path) as stored:
        return dict(stored)


def changed(**arrays: Any) -> Callable[[Arrays], Arrays]:
    return lambda stored: {**stored, **arrays}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (changed(order=np.array([0, 0, 1, 2], np.int32)), "order must hold each place of a task once"),
        (changed(shape=np.array([[5, 2]], np.int32)), "which the shapes of the tasks do not give"),
        (changed(shape=np.array([[-4, -2]], np.int32)), "two numbers ≥ 1 for each task"),
        (changed(prediction=np.array(["a"])), "which it does not have"),
        (changed(extra=np.zeros(1)), "its arrays must be about, shape, prediction, target, order"),
        (changed(about=np.frombuffer(b'{"predictions": 7, "outputs": "logits"}', np.uint8)), "it states"),
        (changed(about=np.frombuffer(b"[", np.uint8)), "no predictions"),
    ],
)  # fmt: skip
def test_arrays_that_contradict_each_other_are_refused(
    edit: Callable[[Arrays], Arrays], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, **edit(arrays_of(path)))

    with pytest.raises(StoreError, match=message):
        read_predictions(path)


def test_pickle_compression_and_a_size_that_is_only_stated_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    arrays = arrays_of(path)

    np.savez(path, **{**arrays, "target": np.array([Path("x")] * 4, dtype=object)}, allow_pickle=True)
    with pytest.raises(StoreError, match="states the type object"):
        read_predictions(path)

    np.savez_compressed(path, **arrays)
    with pytest.raises(StoreError, match="must not be compressed"):
        read_predictions(path)

    _write(path, {**{name: _npy(array) for name, array in arrays.items()}, "prediction": _huge()})
    with pytest.raises(StoreError, match="which it does not have"):
        read_predictions(path)


def test_other_bytes_than_the_result_states_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    Predictions("a", "logits", [task(0, 4, 2)]).write(path)

    with pytest.raises(StoreError, match="another SHA-256"):
        read_predictions(path, "0" * 64)
    with pytest.raises(StoreError, match="no such file"):
        read_predictions(tmp_path / "absent.npz")
    path.write_bytes(json.dumps({}).encode())
    with pytest.raises(StoreError, match="no predictions"):
        read_predictions(path)


def _npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _huge() -> bytes:
    """An array of four numbers whose header states a thousand thousand million of them."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    return header.getvalue() + bytes(16)


def _write(path: Path, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
