"""The user's own features: arrays or a table of numbers with class labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from metabench import REQUIRED, DataError, Dataset, Facts, Source, Split, setting
from metabench.data import ClassIndex, by_fractions, by_list, data_folder, file_digest, split_named
from metabench.records import SPLITS

if TYPE_CHECKING:
    from metabench.device import Device


@dataclass(frozen=True, kw_only=True)
class Features(Dataset):
    """Feature vectors with class labels, such as the embeddings of any model.

    .npz: arrays `x` [examples, …] and `y` [examples], and where it has one `split` [examples]; .csv or
    .parquet: one row for each example, a column `label`, where it has one a column `split`, and numbers
    in the other columns. Without splits of its own, `splits` (a JSON file) or `fractions` make them.
    """

    name: ClassVar[str] = "table"
    path: str = setting(REQUIRED, "the file; a relative one lies in the data folder or where you are")
    label: str = setting("label", "the column of the class, in a .csv or .parquet")
    splits: str = setting("", "JSON file with the classes of each split, next to the file")
    fractions: tuple[float, ...] = setting((0.64, 0.16, 0.2), "shares of train, validation and test")
    split_seed: int = setting(0, "seed of a split by fractions", at_least=0)
    standardise: bool = setting(False, "subtract meta-train's mean and divide by its deviation, per feature")
    content: str = setting("", "digest of the file; filled in by suites, and another file is refused")

    def missing(self) -> str | None:
        """Says where the file was looked for."""
        return (
            None if self.file().is_file() else f"table: there is no file {self.file()}; set `path` to yours"
        )

    def file(self) -> Path:
        """Where the table is: `path` from where you are, or else from the data folder."""
        told = Path(self.path).expanduser()
        return told if told.is_absolute() or told.is_file() else data_folder() / told

    def describe(self) -> Facts:
        """Reads the labels of the file. Empty where there is no file."""
        if self.missing() is not None:
            return Facts("classification", (1,))
        x, _, splits = self._sorted
        classes: dict[str, int] = {split: len(index) for split, index in splits.items()}
        images: dict[str, int] = {split: index.fewest for split, index in splits.items()}
        return Facts("classification", tuple(x.shape[1:]), None, classes, images, self._digest())

    def load(self, device: Device) -> Source:
        """The features as one tensor; raises DataError where a value is missing or a class in two splits."""
        from metabench.data import TensorSource

        if self.missing() is not None:
            raise DataError(str(self.missing()))
        content = self._digest()
        if self.content not in ("", content):
            raise DataError(f"{self.file()} has the digest {content}, not {self.content}")
        x, _, splits = self._sorted
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
        """SHA-256 over the bytes of the file and, where there is one, of the list of splits."""
        files = [self.file(), *([self.file().parent / self.splits] if self.splits else [])]
        return hashlib.sha256("".join(map(file_digest, files)).encode()).hexdigest()

    @cached_property
    def _sorted(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], dict[Split, ClassIndex]]:
        """Features and labels in rows by split and class, and the index of each split."""
        x, y, told = _read(self.file(), self.label)
        if len(x) != len(y) or len(x) == 0:
            raise DataError(f"{self.file()}: {len(x)} rows of features and {len(y)} labels")
        names = np.array([str(label) for label in y])
        if told is not None:
            unknown = sorted(part for part in set(map(str, told)) if split_named(part) is None)
            if unknown:
                raise DataError(
                    f"{self.file()}: unknown split {unknown[0]!r}; known: train, validation, test"
                )
            parts = np.array([split_named(str(part)) for part in told])
            chosen: dict[Split, list[str]] = {
                split: sorted(set(names[parts == split].tolist()))  # type: ignore[misc]
                for split in SPLITS
                if (parts == split).any()
            }
            keys = np.char.add(np.char.add(parts, "/"), names)
        else:
            every = sorted(set(names.tolist()))
            chosen = (
                by_list(self.file().parent / self.splits, every)
                if self.splits
                else by_fractions(every, self.fractions, self.split_seed)
            )
            of = {name: split for split, part in chosen.items() for name in part}
            keys = np.array([f"{of.get(name, '')}/{name}" for name in names])
        rows: list[np.ndarray[Any, Any]] = []
        splits: dict[Split, ClassIndex] = {}
        first = 0
        for split, part in chosen.items():
            found = [np.flatnonzero(keys == f"{split}/{name}") for name in part]
            splits[split] = ClassIndex.of_counts(part, [len(f) for f in found], first)
            first += sum(len(f) for f in found)
            rows += found
        order = np.concatenate(rows) if rows else np.empty(0, np.int64)
        return x[order], names[order], splits


def _read(path: Path, label: str) -> tuple[Any, Any, Sequence[str] | None]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                absent = {"x", "y"} - set(file.files)
                if absent:
                    raise DataError(
                        f"{path} lacks the array {absent.pop()!r}; it has {', '.join(file.files)}"
                    )
                return file["x"], file["y"], file["split"] if "split" in file.files else None
        import pandas as pd

        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except DataError:
        raise
    except ImportError as error:
        raise DataError(f"{path} needs the library pyarrow: pip install pyarrow ({error})") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error})") from error
    if label not in frame:
        raise DataError(f"{path} has no column {label!r}; it has {', '.join(map(str, frame.columns[:8]))}")
    split = frame.pop("split").tolist() if "split" in frame and label != "split" else None
    y = frame.pop(label).to_numpy()
    words = [str(name) for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    if words:
        raise DataError(f"{path}: the column {words[0]!r} holds no numbers; remove it or name it as `label`")
    return frame.to_numpy(dtype=np.float32), y, split
