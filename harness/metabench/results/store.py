"""Results on disk: one JSON file per cell, written by atomic rename, never silently overwritten.

<results>/<suite>-v<version>/<cell id>.json     the result of the cell
<results>/<suite>-v<version>/<cell id>.predictions.npz  what it predicted, where the suite keeps it
<results>/<suite>-v<version>/aside/             files that were not ours, truncated, or superseded
<results>/<suite>-v<version>/jobs/<cell id>/    a job that runs or failed; see `metabench.records.JobFolder`
<results>/<suite>-v<version>/states/            learned states by digest; see `metabench.results.states`
<results>/<suite>-v<version>/checkpoints/       of cells that run or were interrupted
<results>/<suite>-v<version>/logs/              what loggers write
<results>/<suite>-v<version>/tuning/            the trials of searches, in a folder laid out like this one
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from metabench.errors import StoreError
from metabench.folders import file_digest
from metabench.records.cell import Cell, Status
from metabench.records.files import STATE_SUFFIX, read_result, state_path, write_json, writing
from metabench.records.job import JobFolder
from metabench.records.result import Result
from metabench.results.predictions import predictions_beside
from metabench.results.states import read_state_bytes, require_state


@dataclass(frozen=True)
class Store:
    """The results of one suite in one results folder."""

    folder: Path

    def path(self, cell: Cell) -> Path:
        """Return where the result of this cell is stored, or would be."""
        return self.folder / f"{cell.id}.json"

    def get(self, cell: Cell) -> Result | None:
        """Return the stored result of this cell, None if absent; raises StoreError on a foreign file."""
        path = self.path(cell)
        if not path.exists():
            return None
        result = read_result(path)
        if result.cell.digest != cell.digest:
            raise StoreError(f"{path}: holds the result of another cell ({result.cell.id})")
        return result

    def finished(self, cell: Cell) -> Result | None:
        """Return the stored result, if no later run tries the cell again."""
        result = self.get(cell)
        return result if result is not None and replace(result, cell=cell).final else None

    def put(self, result: Result) -> Path:
        """Store a result; an earlier result of this cell is set aside unless nothing was measured for it."""
        path = self.path(result.cell)
        write_json(path, result.to_json(), before=lambda: self._make_way(result))
        return path

    def predictions(self, cell: Cell) -> Path:
        """Return where the predictions of this cell are stored, or would be."""
        return predictions_beside(self.path(cell))

    def with_predictions(self, result: Result) -> Result:
        """Return a result as it can be stored: its job must have left the predictions that it states."""
        left = self.job_folder(result.cell).predictions
        if not result.predictions or (left.is_file() and file_digest(left) == result.predictions):
            return result
        note = "the predictions that its worker stated are not there, or are others"
        return replace(result, predictions="", notes=(*result.notes, note))

    def _make_way(self, result: Result) -> None:
        """Set an earlier result aside where it was measured; put the job's predictions in their place."""
        cell = result.cell
        try:
            old = self.get(cell)
        except StoreError:  # a file that is not ours is kept too
            self.set_aside(self.path(cell))
        else:
            if old is not None and old.status.measured:
                self.set_aside(self.path(cell))
        left = self.job_folder(cell).predictions
        if result.predictions and left.is_file():
            os.replace(left, self.predictions(cell))

    def set_aside(self, path: Path) -> Path:
        """Move a result, and predictions beside it, to the folder `aside`; return its new path."""
        aside = self.folder / "aside"
        target = aside / f"{path.stem}-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**9:09d}.json"
        with writing(path):
            aside.mkdir(exist_ok=True)
            os.replace(path, target)
            if predictions_beside(path).is_file():
                os.replace(predictions_beside(path), predictions_beside(target))
        return target

    def job_folder(self, cell: Cell) -> JobFolder:
        """Return the folder of the last job of this cell, which may not exist."""
        return JobFolder(self.folder / "jobs" / cell.id)

    def make_job_folder(self, cell: Cell) -> JobFolder:
        """Make an empty folder for a job of this cell."""
        folder = self.job_folder(cell)
        with writing(folder.path):
            shutil.rmtree(folder.path, ignore_errors=True)
            folder.path.mkdir(parents=True)
        return folder

    def log(self, cell: Cell) -> Path | None:
        """Return the log of this cell's last job, if it was kept."""
        path = self.job_folder(cell).log
        return path if path.exists() else None

    def clear_job(self, cell: Cell) -> None:
        """Remove the folder of this cell's job."""
        shutil.rmtree(self.job_folder(cell).path, ignore_errors=True)
        jobs = self.folder / "jobs"
        if jobs.is_dir() and not any(jobs.iterdir()):
            jobs.rmdir()

    def checkpoint(self, cell: Cell) -> Path:
        """Return where the checkpoint of this cell lies while it runs, or after an interruption."""
        return self.folder / "checkpoints" / f"{cell.id}{STATE_SUFFIX}"

    def clear_checkpoint(self, cell: Cell) -> None:
        """Remove the checkpoint of this cell, and what a worker that was killed left of one."""
        path = self.checkpoint(cell)
        for file in (path, *path.parent.glob(f".{path.name}.*.part")):
            with suppress(OSError):
                file.unlink()
        with suppress(OSError):  # others are left
            path.parent.rmdir()

    def keep_state(self, result: Result) -> Result:
        """Move the state that the cell's job left to the results; return the result, which names it if it is.

        Raises StoreError where what the job left is no state, or not the one that the result names.
        """
        if not result.state or result.status is not Status.OK:
            return replace(result, state="")
        path = self.job_folder(result.cell).state
        require_state(read_state_bytes(path, result.state), path)
        target = state_path(self.folder, result.state)
        with writing(target):
            target.parent.mkdir(exist_ok=True)
            os.replace(path, target)
        return result

    def paths(self) -> Iterator[Path]:
        """The files of this suite's results, in the order of their names."""
        return iter(sorted(self.folder.glob("*.json")))
