"""The user's own features: arrays or a table of numbers with class labels."""

from __future__ import annotations

import csv
import hashlib
import logging
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from metabench import REQUIRED, DataError, Dataset, Facts, Source, Split, setting
from metabench.data import (
    ClassIndex,
    by_fractions,
    by_list,
    class_name,
    data_folder,
    file_digest,
    known_split,
)
from metabench.records import SPLITS

if TYPE_CHECKING:
    from metabench.device import Device

log = logging.getLogger("metabench.data")

_UNNAMED = re.compile(r"\s*|Unnamed: \d+(\.\d+)?|__index_level_\d+__")
"""Names that an index column without a name has in a file of pandas."""
GAPS = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None"]
"""What stands for a missing number among the features."""


class _Table(NamedTuple):
    """What a file holds: features [examples, …], labels, and the split of each example or None."""

    x: np.ndarray[Any, Any]
    labels: Sequence[Any]
    splits: Sequence[Any] | None


@dataclass(frozen=True, kw_only=True)
class Features(Dataset):
    """Feature vectors with class labels, such as the embeddings of any model.

    .npz: arrays `x` [examples, …] and `y` [examples], optionally `split` [examples]; .csv or .parquet: a row
    for each example, a column `label`, optionally a column `split`, and numbers in the other columns.
    Labels are text: 007, NA and null are names. Without splits of its own, `splits` (a JSON file) or
    `fractions` make them.
    """

    name: ClassVar[str] = "table"
    path: str = setting(REQUIRED, "the file; a relative one lies in the data folder or where you are")
    label: str = setting("label", "the column of the class, in a .csv or .parquet")
    splits: str = setting("", "JSON file with the classes of each split, next to the file")
    fractions: tuple[float, ...] = setting((0.64, 0.16, 0.2), "fractions of train, validation and test")
    split_seed: int = setting(0, "seed of a split by fractions", at_least=0)
    standardise: bool = setting(False, "subtract meta-train's mean and divide by its deviation, per feature")
    content: str = setting("", "digest of the file; filled in by suites, and another file is refused")

    def missing(self) -> str | None:
        """Return where the file was looked for, if it is absent."""
        return (
            None if self.file().is_file() else f"table: there is no file {self.file()}; set `path` to yours"
        )

    def file(self) -> Path:
        """Return where the table is: `path` from where you are, or else from the data folder."""
        path = Path(self.path).expanduser()
        return path if path.is_absolute() or path.is_file() else data_folder() / path

    def describe(self) -> Facts:
        """Count the labels of the file; empty facts if there is no file."""
        if self.missing() is not None:
            return Facts("classification", (1,))
        x, splits = self._sorted
        classes: dict[str, int] = {split: len(index) for split, index in splits.items()}
        images: dict[str, int] = {split: index.fewest for split, index in splits.items()}
        return Facts("classification", tuple(x.shape[1:]), None, classes, images, self._digest())

    def load(self, device: Device) -> Source:
        """Return the features as one tensor; raises DataError if a value is missing."""
        from metabench.data import TensorSource

        if self.missing() is not None:
            raise DataError(str(self.missing()))
        content = self._digest()
        if self.content not in ("", content):
            raise DataError(f"{self.file()} must have the digest {self.content}, got {content}")
        x, splits = self._sorted
        if not np.isfinite(x).all():
            raise DataError(f"{self.file()}: a feature is missing or infinite; fill or remove such rows")
        if self.standardise:
            train = splits.get("train")
            if train is None:
                raise DataError(f"{self.file()}: standardise needs a split train")
            part = np.concatenate([x[f : f + n] for f, n in zip(train.first, train.count, strict=True)])
            x = (x - part.mean(0)) / np.maximum(part.std(0), 1e-12)
        x = np.ascontiguousarray(x, dtype=np.float32)
        return TensorSource("table", x, splits, device, content=content)

    def _digest(self) -> str:
        """Return the SHA-256 of the bytes of the file and, if there is one, of the list of splits."""
        files = [self.file(), *([self.file().parent / self.splits] if self.splits else [])]
        return hashlib.sha256("".join(map(file_digest, files)).encode()).hexdigest()

    @cached_property
    def _sorted(self) -> tuple[np.ndarray[Any, Any], dict[Split, ClassIndex]]:
        """Features in rows by split and class, and the index of each split."""
        path = self.file()
        table = read_table(path, self.label)
        if np.ndim(table.x) < 2 or len(table.x) != len(table.labels) or len(table.x) == 0:
            raise DataError(
                f"{path}: features must be [examples, …] with one label each, got {np.shape(table.x)} and "
                f"{len(table.labels)} labels"
            )
        names = _texts(table.labels, path, "label")
        rows = self._rows(names) if table.splits is None else _rows_of_splits(names, table.splits, path)
        splits: dict[Split, ClassIndex] = {}
        order: list[int] = []
        for split, classes in rows.items():
            counts = [len(members) for members in classes.values()]
            splits[split] = ClassIndex.of_counts(list(classes), counts, len(order))
            order += [row for members in classes.values() for row in members]
        return table.x[np.asarray(order, np.int64)], splits

    def _rows(self, names: Sequence[str]) -> dict[Split, dict[str, list[int]]]:
        """The rows of each class of each split, by a list or by fractions."""
        members: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            members.setdefault(name, []).append(row)
        if self.splits:
            parts = by_list(self.file().parent / self.splits, list(members))
        else:
            parts = by_fractions(sorted(members), self.fractions, self.split_seed)
        return {split: {name: members[name] for name in part} for split, part in parts.items()}


def _rows_of_splits(
    names: Sequence[str], splits: Sequence[Any], path: Path
) -> dict[Split, dict[str, list[int]]]:
    """The rows of each class of each split, as the file says; classes in the order of their names."""
    if len(splits) != len(names):
        raise DataError(f"{path}: {len(names)} labels must have as many splits, got {len(splits)}")
    parts = _texts(splits, path, "split")
    known = {part: known_split(part, path) for part in dict.fromkeys(parts)}
    rows: dict[Split, dict[str, list[int]]] = {}
    for split in SPLITS:
        members: dict[str, list[int]] = {}
        for row in sorted(range(len(names)), key=lambda row: names[row]):
            if known[parts[row]] == split:
                members.setdefault(names[row], []).append(row)
        if members:
            rows[split] = members  # type: ignore[index]  # SPLITS holds the values of Split
    return rows


def _texts(values: Sequence[Any], path: Path, what: str) -> list[str]:
    """Labels as names: text, or whole numbers as they are written; raises DataError for an empty one."""
    texts = []
    for row, value in enumerate(values, start=1):
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        missing = value is None or (not isinstance(value, (str, bytes)) and value != value)
        if missing or text == "<NA>" or not class_name(text):
            raise DataError(f"{path}: row {row} has an empty {what}; name it or remove the row")
        texts.append(class_name(text))
    return texts


def read_table(path: Path, label: str) -> _Table:
    """Return what a .npz, .csv or .parquet holds; raise DataError with what is wrong with it."""
    readers = {".npz": _read_arrays, ".parquet": _read_parquet}
    try:
        return readers.get(path.suffix, _read_csv)(path, label)
    except DataError:
        raise
    except ImportError as error:
        raise DataError(f"{path} needs the library pyarrow: pip install pyarrow ({error})") from None
    except MemoryError:
        raise DataError(f"{path} declares more than fits in memory") from None
    except (ValueError, OSError, EOFError, KeyError, RuntimeError, NotImplementedError,
            zipfile.BadZipFile, zlib.error, csv.Error) as error:  # fmt: skip
        raise DataError(f"{path} cannot be read ({error})") from error


def _read_arrays(path: Path, label: str) -> _Table:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        absent = {"x", "y"} - set(file.files)
        if absent:
            raise DataError(f"{path} lacks the array {min(absent)!r}; it has {', '.join(file.files)}")
        x, labels = file["x"], file["y"]
        splits = file["split"] if "split" in file.files else None
    for name, values in (("y", labels), ("split", splits)):
        if values is not None and values.ndim != 1:
            raise DataError(f"{path}: the array {name!r} must be [examples], got {list(values.shape)}")
    return _Table(x, labels.tolist(), None if splits is None else splits.tolist())


def _read_csv(path: Path, label: str) -> _Table:
    import pandas as pd

    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    doubled = [name for name in header if name.strip() and header.count(name) > 1]
    if doubled:
        raise DataError(f"{path} has two columns {doubled[0]!r}; rename or remove one")
    texts = {name: str for name in (label, "split") if name in header}  # kept as written: NA is a name
    gaps = {name: GAPS for name in header if name not in texts}
    frame = pd.read_csv(path, encoding="utf-8-sig", dtype=texts, keep_default_na=False, na_values=gaps)
    return _table(frame, path, label)


def _read_parquet(path: Path, label: str) -> _Table:
    import pandas as pd

    return _table(pd.read_parquet(path), path, label)


def _table(frame: Any, path: Path, label: str) -> _Table:
    """The label, the split and the numbers of a table; a column that numbers the rows is left out."""
    import pandas as pd

    if label not in frame:
        raise DataError(f"{path} has no column {label!r}; it has {', '.join(map(str, frame.columns[:8]))}")
    splits = frame.pop("split").tolist() if "split" in frame and label != "split" else None
    labels = frame.pop(label).tolist()
    if not isinstance(frame.index, pd.RangeIndex):
        log.warning("%s: its row names are an index and are left out", path)
    for name in list(frame):
        if not pd.api.types.is_numeric_dtype(frame[name]):
            raise DataError(f"{path}: the column {str(name)!r} holds no numbers; remove it or set `label`")
        if _numbers_rows(frame[name].to_numpy()):
            log.warning("%s: the column %r numbers the rows and is left out", path, str(name))
            frame.pop(name)
        elif _UNNAMED.fullmatch(str(name)):
            raise DataError(f"{path}: a column has no name ({name}); name it, or remove it")
    with np.errstate(over="ignore"):  # too large for float32: refused as infinite
        return _Table(frame.to_numpy(dtype=np.float32, na_value=np.nan), labels, splits)


def _numbers_rows(values: np.ndarray[Any, Any]) -> bool:
    """Whether a column counts 0, 1, 2, … or 1, 2, 3, …, as an index does and a feature does not."""
    count = np.arange(len(values))
    return len(values) > 2 and any(np.array_equal(values, count + first) for first in (0, 1))
