"""Results on disk: one JSON file per cell, written by atomic rename, never silently overwritten.

<results>/<suite>-v<version>/<cell id>.json     the result of the cell
<results>/<suite>-v<version>/aside/             files that were not ours, truncated, or superseded
<results>/<suite>-v<version>/jobs/<cell id>/    a job that runs or failed: job.json, log, progress.jsonl
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metabench.errors import StoreError
from metabench.records.cell import Cell
from metabench.records.result import Result


@dataclass(frozen=True)
class Store:
    """The results of one suite in one results folder."""

    folder: Path

    def path(self, cell: Cell) -> Path:
        """Where the result of this cell lies, or would lie."""
        return self.folder / f"{cell.id}.json"

    def get(self, cell: Cell) -> Result | None:
        """The stored result of this cell, None where there is none; raises StoreError on a foreign file."""
        path = self.path(cell)
        if not path.exists():
            return None
        result = read_result(path)
        if result.cell.digest != cell.digest:
            raise StoreError(f"{path}: holds the result of another cell ({result.cell.id})")
        return result

    def finished(self, cell: Cell) -> Result | None:
        """The stored result, where no later run has to try the cell again."""
        result = self.get(cell)
        return result if result is not None and replace(result, cell=cell).final else None

    def put(self, result: Result) -> Path:
        """Stores a result; an earlier one of this cell moves aside unless nothing was measured for it."""
        path = self.path(result.cell)
        write_json(path, result.to_json(), before=lambda: self._make_way(result.cell))
        return path

    def _make_way(self, cell: Cell) -> None:
        try:
            old = self.get(cell)
        except StoreError:  # a file that is not ours is kept too
            self.set_aside(self.path(cell))
        else:
            if old is not None and old.status.measured:
                self.set_aside(self.path(cell))

    def set_aside(self, path: Path) -> Path:
        """Moves a file out of the way without losing it; returns its new place."""
        aside = self.folder / "aside"
        target = aside / f"{path.stem}-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**9:09d}.json"
        with writing(path):
            aside.mkdir(exist_ok=True)
            os.replace(path, target)
        return target

    def job_folder(self, cell: Cell) -> Path:
        """An empty folder for the job of this cell."""
        folder = self.folder / "jobs" / cell.id
        with writing(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        return folder

    def log(self, cell: Cell) -> Path | None:
        """The log of this cell's last job, where it was kept."""
        path = self.folder / "jobs" / cell.id / "log"
        return path if path.exists() else None

    def clear_job(self, cell: Cell) -> None:
        """Removes what the job of this cell left."""
        shutil.rmtree(self.folder / "jobs" / cell.id, ignore_errors=True)
        jobs = self.folder / "jobs"
        if jobs.is_dir() and not any(jobs.iterdir()):
            jobs.rmdir()

    def paths(self) -> Iterator[Path]:
        """The files of this suite's results, in the order of their names."""
        return iter(sorted(self.folder.glob("*.json")))


def read_result(path: Path) -> Result:
    """The result in this file; raises StoreError naming the file and what is wrong with it."""
    try:
        return Result.from_json(json.loads(path.read_bytes()))
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = "truncated, or no JSON" if isinstance(error, json.JSONDecodeError) else f"no result: {error}"
        raise StoreError(f"{path}: {what}") from error


def write_json(path: Path, content: Any, before: Callable[[], object] = lambda: None) -> None:
    """Writes JSON to `path` by atomic rename: a reader sees the old file or the whole new one.

    before: called when the new file is complete on disk, right before it takes its place. Raises
    StoreError where it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        try:
            with open(part, "w", encoding="utf-8") as file:
                json.dump(content, file, separators=(",", ":"), allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            before()
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError of the block, which writes `path`, into a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = "the disk is full; free some space and run the same command again"
        else:
            what = error.strerror or str(error)
        raise StoreError(f"{path}: cannot be written: {what}. Earlier results are intact.") from error
