"""Small tables of classification: scikit-learn's own, or the user's folder of CSV files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from metabench import DataError, Dataset, Facts, Source, setting
from metabench.data import data_folder, file_digest

if TYPE_CHECKING:
    from metabench.device import Device

LOADERS: Mapping[str, str] = {
    "iris": "load_iris",
    "wine": "load_wine",
    "breast-cancer": "load_breast_cancer",
    "digits": "load_digits",
}
"""The tables that scikit-learn carries, by the function that reads each."""


@dataclass(frozen=True, kw_only=True)
class Tables(Dataset):
    """A task is a table: classes of it, support rows to learn from, and other rows to classify.

    Task number i is of table i modulo their number, where that has enough classes; with a range of ways a
    task has all classes of its table. Rows have zeros after their own columns. Values are as the table has
    them, in its own units; rows that repeat another are left out. With `standardise` the rows of queries
    count too, without their classes. There is nothing to train on: name it as a `test_dataset`, for instance
    of `table-prior`.
    """

    name: ClassVar[str] = "tables"
    tables: tuple[str, ...] = setting(
        ("iris", "wine", "breast-cancer"), f"names of tables: {', '.join(LOADERS)}, or stems of CSV files"
    )
    path: str = setting("", "a folder of CSV files, which take the place of scikit-learn's tables")
    label: str = setting("label", "the column of the class in a CSV file")
    width: int = setting(30, "columns of an input, the most that a table may have", at_least=1)
    standardise: bool = setting(False, "scale columns by mean and deviation of all rows")
    content: str = setting("", "digest of the user's files; filled in by suites, other files are refused")

    def missing(self) -> str | None:
        """Return which file is absent, or how to install scikit-learn where its tables are asked for."""
        if self.path:
            absent = [file for file in self._files().values() if not file.is_file()]
            return f"there is no file {absent[0]}; set `path` and `tables` to yours" if absent else None
        if find_spec("sklearn") is None:
            return "scikit-learn's tables are absent: pip install 'metabench[classical]'"
        return None

    def describe(self) -> Facts:
        """Count classes and rows of the tables; empty facts where they are absent."""
        if self.missing() is not None:
            return Facts("classification", (self.width,))
        classes = [rows for table in self._rows.values() for rows in table.values()]
        return Facts(
            "classification", (self.width,), None, {"test": len(classes)}, {"test": min(map(len, classes))},
            self._digest(),
        )  # fmt: skip

    def load(self, device: Device) -> Source:
        """Read the tables; raises DataError where one is absent, too wide, or not the suite's."""
        from metabench_plugins.datasets._table_tasks import table_tasks

        absent = self.missing()
        if absent is not None:
            raise DataError(f"tables: {absent}")
        if self.content not in ("", self._digest()):
            raise DataError(f"{self.path} must have the digest {self.content}, got {self._digest()}")
        return table_tasks(self._rows, device, self._digest())

    @cached_property
    def _rows(self) -> Mapping[str, Mapping[str, np.ndarray[Any, Any]]]:
        """Return the rows [n, width] of each class of each table."""
        return {name: self._by_class(name) for name in self.tables}

    def _by_class(self, name: str) -> Mapping[str, np.ndarray[Any, Any]]:
        x, labels = self._read(name)
        if x.shape[1] > self.width:
            raise DataError(f"table {name!r} has {x.shape[1]} columns: set `width` to that many at least")
        first = np.sort(np.unique(x, axis=0, return_index=True)[1])
        rows = x[first]
        if self.standardise:
            rows = (rows - rows.mean(0)) / np.maximum(rows.std(0), 1e-12)
        padded = np.pad(rows, ((0, 0), (0, self.width - x.shape[1]))).astype(np.float32)
        kept = np.asarray(labels)[first]
        if not np.isfinite(padded).all() or len(set(kept)) < 2:
            raise DataError(f"table {name!r} must hold finite numbers and two classes at least")
        return {str(label): padded[kept == label] for label in sorted(set(kept))}

    def _read(self, name: str) -> tuple[np.ndarray[Any, Any], Any]:
        """Return a table's values [rows, columns] and its labels."""
        if self.path:
            from metabench_plugins.datasets.features import read_table

            table = read_table(self._files()[name], self.label)
            return np.asarray(table.x, np.float64), table.labels
        if name not in LOADERS:
            raise DataError(f"tables must be of {', '.join(LOADERS)} where no path is set, got {name!r}")
        from sklearn import datasets

        loaded = getattr(datasets, LOADERS[name])()
        return np.asarray(loaded.data, np.float64), loaded.target_names[loaded.target]

    def _files(self) -> Mapping[str, Path]:
        """Return the CSV file of each table."""
        folder = Path(self.path).expanduser()
        here = folder if folder.is_absolute() or folder.is_dir() else data_folder() / folder
        return {name: here / f"{name}.csv" for name in self.tables}

    def _digest(self) -> str:
        """Return the SHA-256 of the user's files; scikit-learn's tables are known by their names."""
        if not self.path:
            return ""
        return hashlib.sha256("".join(map(file_digest, self._files().values())).encode()).hexdigest()
