"""Read any number of stored results as rows, quickly: a file that has not changed is parsed only once.

The rows and per-task scores of files read before are in a SQLite file in the user's cache folder (or in
METABENCH_CACHE), by path, time and size. Deleting it loses nothing. A file that holds no result is
named as an `UnreadableFile` and never stops the reading.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from metabench.errors import RequestError, StoreError
from metabench.folders import cache_folder
from metabench.records.files import read_result
from metabench.records.result import SCHEMA
from metabench.records.row import FIELDS, Row, UnreadableFile
from metabench.results.rows import ROW_VERSION, row_of

SKIPPED = frozenset({"again", "aside", "jobs", "local", "report", "site"})
"""Folders inside of a results folder that hold no results of it; `local` holds what is not published."""


@dataclass
class ReadResults:
    """Rows, their per-task scores in the same order, and the files that gave none."""

    rows: list[Row] = field(default_factory=list)
    scores: list[NDArray[np.float64]] = field(default_factory=list)
    problems: list[UnreadableFile] = field(default_factory=list)


@dataclass(frozen=True)
class _File:
    path: str
    changed: int
    size: int


def read(paths: Iterable[Path | str], cache: Path | None = None) -> ReadResults:
    """Return every result in these files and folders, once, in the order of their paths.

    cache: the folder of the cache; None for the user's own. Raises RequestError for a path that is absent.
    """
    files = list(dict.fromkeys(file for path in paths for file in _files(Path(path))))
    results = ReadResults()
    with uncollected(), _Cache(cache or cache_folder()) as stored:
        rows = stored.load(files)
        fresh = []
        for file in files:
            if file not in rows:
                try:
                    rows[file] = row_of(read_result(Path(file.path)), file.path)
                except Exception as error:  # whatever a foreign file makes reading raise, it is no result
                    results.problems.append(_unreadable(file, error))
                    continue
                fresh.append(file)
        stored.keep((file, *rows[file]) for file in fresh)
    for file in files:
        if file in rows:
            row, scores = rows[file]
            results.rows.append(row)
            results.scores.append(scores)
    return results


def _unreadable(file: _File, error: Exception) -> UnreadableFile:
    own = isinstance(error, StoreError)
    return UnreadableFile(
        file.path, str(error).removeprefix(f"{file.path}: ") if own else f"no result: {error}"
    )


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Stop the search for garbage cycles: rows have none, and it would visit every row many times."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def for_good() -> Iterator[None]:
    """Exempt what is read in this context from the garbage search for good: for a command that reads once."""
    with uncollected():
        yield
        gc.freeze()


def files(paths: Iterable[Path | str]) -> list[Path]:
    """Return every file that may hold a result in these files and folders, once."""
    return [Path(file.path) for file in dict.fromkeys(f for path in paths for f in _files(Path(path)))]


def _files(path: Path) -> Iterator[_File]:
    path = path.absolute()
    if path.is_file():
        yield _file(path)
    elif path.is_dir():
        yield from _walk(str(path))
    else:
        raise RequestError(f"{path}: no such file or folder; `metabench run quick` makes results/local")


def _walk(folder: str) -> Iterator[_File]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        yield _File(folder, 0, 0)
        return
    for entry in listed:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if entry.name not in SKIPPED:
                yield from _walk(entry.path)
        elif entry.name.endswith(".json"):
            yield _file(entry)


def _file(entry: Path | os.DirEntry[str]) -> _File:
    """Return the file as it is now; one without a status (gone, a broken link) is named when it is read."""
    try:
        status = entry.stat()
    except OSError:
        return _File(os.fspath(entry), 0, 0)
    return _File(os.fspath(entry), status.st_mtime_ns, status.st_size)


class _Cache:
    """The SQLite file; if it cannot be used, everything is read anew and nothing is kept."""

    def __init__(self, folder: Path) -> None:
        fields = zlib.crc32(",".join(FIELDS).encode())  # rows with other fields are made anew
        self.path = folder / f"results-{SCHEMA}-{ROW_VERSION}-{fields:08x}.sqlite"
        self.connection: sqlite3.Connection | None = None

    def __enter__(self) -> _Cache:
        try:
            self.connection = self._open()
        except sqlite3.DatabaseError:  # damaged: a cache, which can be made again
            with contextlib.suppress(OSError, sqlite3.Error):
                self.path.unlink(missing_ok=True)
                self.connection = self._open()
        except OSError:
            self.connection = None
        return self

    def __exit__(self, *_: object) -> None:
        if self.connection is not None:
            self.connection.close()

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=10)
        try:
            with connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS result (folder TEXT, path TEXT PRIMARY KEY,"
                    " changed INTEGER, size INTEGER, row TEXT, scores BLOB)"
                )
                connection.execute("CREATE INDEX IF NOT EXISTS by_folder ON result (folder)")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def load(self, files: Sequence[_File]) -> dict[_File, tuple[Row, NDArray[np.float64]]]:
        """Return what the cache holds of these files as they are now."""
        if self.connection is None:
            return {}
        wanted = set(files)
        kept, texts, scores = [], [], []
        query = "SELECT path, changed, size, row, scores FROM result WHERE folder = ?"
        try:
            for folder in dict.fromkeys(os.path.dirname(file.path) for file in files):
                for path, changed, size, text, blob in self.connection.execute(query, (folder,)):
                    file = _File(path, changed, size)
                    if file in wanted:
                        kept.append(file)
                        texts.append(text)
                        scores.append(np.frombuffer(blob, dtype=np.float64))
        except sqlite3.Error:
            return {}
        rows = [
            cast(Row, dict(zip(FIELDS, values, strict=True))) for values in json.loads(f"[{','.join(texts)}]")
        ]
        return dict(zip(kept, zip(rows, scores, strict=True), strict=True))

    def keep(self, fresh: Iterable[tuple[_File, Row, NDArray[np.float64]]]) -> None:
        """Add what was read."""
        if self.connection is None:
            return
        lines = (
            (os.path.dirname(f.path), f.path, f.changed, f.size, _packed(row), scores.tobytes())
            for f, row, scores in fresh
        )
        with contextlib.suppress(sqlite3.Error), self.connection:
            self.connection.executemany("INSERT OR REPLACE INTO result VALUES (?, ?, ?, ?, ?, ?)", lines)


def _packed(row: Row) -> str:
    """Return the row without its keys, which are the same for all: half the text, read in half the time."""
    values: Mapping[str, object] = row
    return json.dumps([values[name] for name in FIELDS], separators=(",", ":"))
