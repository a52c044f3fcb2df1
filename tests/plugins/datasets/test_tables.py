"""Small tables, and the prior of random tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from metabench import DataError, Invalid, Protocol
from metabench.data import draws
from metabench.device import Device
from metabench.records import VariedProtocol
from metabench_plugins.datasets.table_prior import TablePrior, table
from metabench_plugins.datasets.tables import Tables

WHOLE = VariedProtocol(3, 5, 5, least_ways=2, least_shots=5, least_queries=5)


def write_csv(folder: Path, name: str, labels: str, columns: int = 2) -> None:
    """Three different rows of each label."""
    lines = [",".join([*(f"c{column}" for column in range(columns)), "label"])]
    for row, label in enumerate(labels * 3):
        lines.append(",".join([*(str(row + 0.5 + column) for column in range(columns)), label]))
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def best_column(rows: np.ndarray[Any, Any]) -> float:
    """The largest difference between the means of two classes, in deviations of its column."""
    difference = abs(rows[:, 0].mean(0) - rows[:, 1].mean(0)) / (rows.std((0, 1)) + 1e-9)
    return float(difference.max())


def test_a_task_has_all_classes_of_the_table_of_its_number() -> None:
    source = Tables().load(Device())
    ways = [source.shape("test", WHOLE, number, 0).ways for number in range(6)]  # type: ignore[union-attr]
    assert ways == [3, 3, 2, 3, 3, 2]
    three, two = (source.episodes("test", Protocol(w, 5, 5), n, 0) for w, n in ((3, [0, 1, 4]), (2, [2, 5])))
    assert [sorted(row) for row in three.classes.tolist()] == [[0, 1, 2], [3, 4, 5], [3, 4, 5]]
    assert [sorted(row) for row in two.classes.tolist()] == [[6, 7], [6, 7]]
    iris = {tuple(row) for row in load_iris().data.astype(np.float32).tolist()}
    assert {tuple(row) for row in three.support.x[0, :, :4].tolist()} <= iris
    assert not three.support.x[0, :, 4:].any()


def test_a_folder_of_csv_files_is_read_and_what_does_not_fit_is_named(tmp_path: Path) -> None:
    write_csv(tmp_path, "pairs", "ab")
    write_csv(tmp_path, "wide", "ab", columns=40)
    mine = Tables(path=str(tmp_path), tables=("pairs",), width=4)
    assert mine.describe().classes == {"test": 2}
    assert mine.describe().images == {"test": 3}
    episodes = mine.load(Device()).episodes("test", Protocol(2, 1, 2), [0], 0)
    assert episodes.query.x.shape == (1, 4, 4)
    with pytest.raises(DataError, match="table 'wide' has 40 columns: set `width`"):
        Tables(path=str(tmp_path), tables=("wide",)).load(Device())
    assert "there is no file" in str(Tables(path=str(tmp_path), tables=("absent",)).missing())
    with pytest.raises(DataError, match="must have the digest"):
        Tables(path=str(tmp_path), tables=("pairs",), content="ab" * 32).load(Device())


def test_more_classes_than_any_table_has_are_refused() -> None:
    with pytest.raises(Invalid, match="ways must be at most 3"):
        Tables().load(Device()).episodes("test", Protocol(4, 1, 1), [0], 0)


def test_classes_of_a_random_table_can_be_learned_and_columns_beyond_its_own_are_zero() -> None:
    streams = draws.streams(draws.key("test"), range(40))
    tables = [table(stream, 2, 20, 10) for stream in streams]
    assert all(rows.shape == (20, 2, 10) and np.isfinite(rows).all() for rows in tables)
    used = [int((rows != 0).any((0, 1)).sum()) for rows in tables]
    assert min(used) >= 2
    assert len(set(used)) > 4
    shuffled = [
        np.random.default_rng(0).permutation(rows.reshape(40, 10)).reshape(20, 2, 10) for rows in tables
    ]
    assert np.mean(list(map(best_column, tables))) > np.mean(list(map(best_column, shuffled))) + 0.1


def test_splits_seeds_and_numbers_of_the_prior_give_different_tables() -> None:
    source = TablePrior(width=5).load(Device())
    shape = Protocol(2, 2, 1)
    first = source.episodes("train", shape, [0, 1], 0).support.x
    others = [source.episodes("test", shape, [0, 1], 0), source.episodes("train", shape, [0, 1], 1)]
    assert not torch.equal(first[0], first[1])
    assert not any(torch.equal(first, other.support.x) for other in others)
