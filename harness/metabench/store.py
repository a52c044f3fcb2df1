"""Results on disk: one JSON file per cell, written by atomic rename, never silently overwritten.

<results>/<suite>-v<version>/<cell id>.json     the result of the cell
<results>/<suite>-v<version>/aside/             files that were not ours, truncated, or superseded
<results>/<suite>-v<version>/jobs/<cell id>/    a running job: job.json, log, progress.jsonl
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metabench.errors import StoreError
from metabench.records import STATUSES, Cell
from metabench.result import Result


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

    def settled(self, cell: Cell) -> Result | None:
        """The stored result, where no later run has to try the cell again."""
        result = self.get(cell)
        if result is None:
            return None
        retry = STATUSES[result.status] and result.status not in cell.expect
        return None if retry else result

    def put(self, result: Result) -> Path:
        """Stores a result; an earlier measured one of this cell moves aside first."""
        path = self.path(result.cell)
        if path.exists():
            self.set_aside(path)
        write_json(path, result.to_json())
        return path

    def set_aside(self, path: Path) -> Path:
        """Moves a file out of the way without losing it; returns its new place."""
        aside = self.folder / "aside"
        target = aside / f"{path.stem}-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**9:09d}.json"
        with _disk(path):
            aside.mkdir(exist_ok=True)
            os.replace(path, target)
        return target

    def job_folder(self, cell: Cell) -> Path:
        """An empty folder for the job of this cell."""
        folder = self.folder / "jobs" / cell.id
        with _disk(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        return folder

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


def write_json(path: Path, told: Any) -> None:
    """Writes JSON to `path` by atomic rename: a reader sees the old file or the whole new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with _disk(path):
        try:
            with open(part, "w", encoding="utf-8") as file:
                json.dump(told, file, separators=(",", ":"), allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


class _disk:  # noqa: N801 - used as a statement
    """Turns an OSError of the block into a StoreError that says what to do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            say = (
                "the disk is full; free some space and run the same command again" if full else error.strerror
            )
            raise StoreError(f"{self.path}: cannot be written: {say}. Earlier results are intact.") from error
