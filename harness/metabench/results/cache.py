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
import re
import sqlite3
import stat
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from metabench.errors import RequestError, StoreError
from metabench.folders import cache_folder
from metabench.records.document import kind_of
from metabench.records.files import read_result
from metabench.records.identity import canonical_json
from metabench.records.result import SCHEMA
from metabench.records.row import FIELDS, Row, UnreadableFile
from metabench.records.task_classes import TaskClasses
from metabench.results.rows import ROW_VERSION, row_of
from metabench.results.withdrawn import lists_beside, reason_of, reasons

REPRODUCED = "reproduced"
"""The folder beside results that holds records of their reruns; see `metabench.results.reproductions`."""

TRIALS = "tuning"
"""The folder beside results that holds those of the trials which their settings were chosen from."""

RESERVED = frozenset(
    {"again", "aside", "checkpoints", "jobs", "local", "logs", "report", REPRODUCED, "site", "states", TRIALS}
)
"""Folders inside of a results folder that hold no results of it; `local` holds what is not published."""

LINK = "a link, which is not followed; name what it leads to"


@dataclass
class ReadResults:
    """Rows, their scores [metrics, tasks] in the same order, and the files that gave none.

    classes: what the test tasks of the rows consist of, by the rows' key.
    """

    rows: list[Row] = field(default_factory=list)
    scores: list[NDArray[np.float64]] = field(default_factory=list)
    classes: dict[str, TaskClasses] = field(default_factory=dict)
    problems: list[UnreadableFile] = field(default_factory=list)


@dataclass(frozen=True)
class _File:
    """A file as it is now; problem: why it is passed over unread."""

    path: str
    changed: int
    size: int
    problem: str = ""


def read(paths: Iterable[Path | str], cache: Path | None = None) -> ReadResults:
    """Return every result in these files and folders, once, in the order of their paths.

    cache: the folder of the cache; None for the user's own. Raises RequestError for a path that is absent.
    """
    files = _all_files(paths)
    results = ReadResults()
    with uncollected(), _Cache(cache or cache_folder()) as stored:
        rows = stored.load(files)
        fresh = []
        for file in files:
            if file in rows:
                continue
            try:
                rows[file], classes = _read(file)
            except Exception as error:  # whatever a foreign file makes reading raise, it is no result
                results.problems.append(_unreadable(file, error))
            else:
                fresh.append(file)
                results.classes |= {classes.key: classes} if classes else {}
        stored.keep(((file, *rows[file]) for file in fresh), results.classes)
        results.classes |= stored.load_classes({row["classes"] for row, _ in rows.values()})
    lists = lists_beside(file.path for file in rows)
    results.problems += [
        UnreadableFile(str(listed.path), what) for listed in lists for what in listed.problems
    ]
    withdrawn = reasons(lists)
    for file in files:
        if file in rows:
            row, scores = rows[file]
            row["withdrawn"] = reason_of(file.path, row["digest"], withdrawn)
            results.rows.append(row)
            results.scores.append(scores)
    return results


def _read(file: _File) -> tuple[tuple[Row, NDArray[np.float64]], TaskClasses | None]:
    if file.problem:
        raise StoreError(file.problem)
    result = read_result(Path(file.path))
    return row_of(result, file.path), result.scores.classes if result.scores else None


def _unreadable(file: _File, error: Exception) -> UnreadableFile:
    what = str(error) or type(error).__name__
    own = isinstance(error, StoreError)
    return UnreadableFile(file.path, what.removeprefix(f"{file.path}: ") if own else f"no result: {what}")


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


def files(paths: Iterable[Path | str]) -> tuple[list[Path], list[UnreadableFile]]:
    """Return every file that may hold a result in these files and folders, once, and what is passed over."""
    listed = _all_files(paths)
    readable = [Path(file.path) for file in listed if not file.problem]
    return readable, [UnreadableFile(file.path, file.problem) for file in listed if file.problem]


def _all_files(paths: Iterable[Path | str]) -> list[_File]:
    absolute = [Path(path).absolute() for path in paths]
    roots = tuple(os.path.realpath(path) for path in absolute)
    return list(dict.fromkeys(file for path in absolute for file in _files(path, roots)))


def _files(path: Path, roots: Sequence[str]) -> Iterator[_File]:
    if path.is_dir():
        yield from _walk(str(path), roots)
    elif path.exists():
        yield _file(str(path), path.stat())
    else:
        raise RequestError(f"{path}: no such file or folder; `metabench run quick` makes results/local")


def _walk(folder: str, roots: Sequence[str]) -> Iterator[_File]:
    """Yield the files that may hold results in the order of their paths; each folder is visited once.

    roots: the real paths that are read, in which whatever a link leads to is found without it.
    """
    visited: set[tuple[int, int]] = set()
    levels = [_listed(folder, visited)]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
        elif isinstance(entry, _File):
            yield entry
        elif entry.is_symlink():
            if not _leads_to_folder_in(entry.path, roots):
                yield _File(entry.path, 0, 0, LINK)
        elif entry.is_dir():
            levels.append(_listed(entry.path, visited))
        else:
            yield _status_of(entry)


def _listed(folder: str, visited: set[tuple[int, int]]) -> Iterator[os.DirEntry[str] | _File]:
    """Yield the entries of a folder that may be or hold results; the folder itself if it cannot be listed."""
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield _File(folder, 0, 0, f"cannot be listed: {error.strerror}")
        return
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    # a machine may be called `local`: its folder is inside of a suite's, where nothing else is called so
    skipped = RESERVED - {"local"} if _SUITE_FOLDER.search(folder) else RESERVED
    for entry in listed:
        if entry.name.startswith("."):
            continue
        if entry.name.endswith(".json") or (entry.name not in skipped and _is_folder(entry)):
            yield entry


_SUITE_FOLDER = re.compile(r"-v[0-9]+$")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _leads_to_folder_in(link: str, roots: Sequence[str]) -> bool:
    target = os.path.realpath(link)
    return os.path.isdir(target) and any(os.path.commonpath([target, root]) == root for root in roots)


def _status_of(entry: os.DirEntry[str]) -> _File:
    try:
        return _file(entry.path, entry.stat(follow_symlinks=False))
    except OSError as error:  # it has just gone
        return _File(entry.path, 0, 0, f"cannot be read: {error.strerror}")


def _file(path: str, status: os.stat_result) -> _File:
    if not stat.S_ISREG(status.st_mode):
        return _File(path, 0, 0, f"{kind_of(status.st_mode)}, not a regular file")
    return _File(path, status.st_mtime_ns, status.st_size)


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
                connection.execute("CREATE TABLE IF NOT EXISTS classes (key TEXT PRIMARY KEY, content TEXT)")
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
        folders = dict.fromkeys(os.path.dirname(file.path) for file in files if _is_text(file.path))
        query = "SELECT path, changed, size, row, scores FROM result WHERE folder = ?"
        try:
            for folder in folders:
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
        shaped = [s.reshape(1 + len(row["further"]), -1) for row, s in zip(rows, scores, strict=True)]
        return dict(zip(kept, zip(rows, shaped, strict=True), strict=True))

    def load_classes(self, keys: Collection[str]) -> dict[str, TaskClasses]:
        """Return what the test tasks of these keys consist of."""
        if self.connection is None:
            return {}
        try:
            stored = self.connection.execute("SELECT key, content FROM classes").fetchall()
        except sqlite3.Error:
            return {}
        return {key: TaskClasses.from_json(json.loads(content)) for key, content in stored if key in keys}

    def keep(
        self,
        fresh: Iterable[tuple[_File, Row, NDArray[np.float64]]],
        classes: Mapping[str, TaskClasses],
    ) -> None:
        """Add what was read."""
        if self.connection is None:
            return
        lines = (
            (os.path.dirname(f.path), f.path, f.changed, f.size, _packed(row), scores.tobytes())
            for f, row, scores in fresh
            if _is_text(f.path)
        )
        with contextlib.suppress(sqlite3.Error), self.connection:
            self.connection.executemany("INSERT OR REPLACE INTO result VALUES (?, ?, ?, ?, ?, ?)", lines)
            of_tasks = [(key, canonical_json(content)) for key, content in classes.items()]
            self.connection.executemany("INSERT OR REPLACE INTO classes VALUES (?, ?)", of_tasks)


def _is_text(path: str) -> bool:
    """Return whether a path is UTF-8, which SQLite asks for; other files are parsed each time."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _packed(row: Row) -> str:
    """Return the row without its keys, which are the same for all: half the text, read in half the time."""
    values: Mapping[str, object] = row
    return json.dumps([values[name] for name in FIELDS], separators=(",", ":"))
