"""A job: one cell as a command, what the executor says of its end, and the files of its folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from metabench.records.cell import Cell
from metabench.records.files import write_json
from metabench.records.progress import Event
from metabench.records.result import Result

TAIL_LINES = 20
"""How many lines of a log a result keeps."""
CHECKPOINT_SECONDS = 120.0
"""Seconds between two checkpoints of a cell, unless the person who runs it says otherwise."""
RANK_PREFIX = "[rank ${rank}]:"
"""The beginning of each line of a rank in the log of its cell, as a template that torchrun fills in."""


@dataclass(frozen=True)
class Job:
    """One cell to run as a command of its own.

    folder: the job's own folder, shared with the machine that runs it; argv: the command, already
    wrapped by the backend; environment: variables to add; timeout: seconds, None for no limit;
    resources: "ranks", "gpus" (on each machine) and every setting of the backend (such as "threads"), for
    batch systems.
    The command's output goes to `log`.
    """

    id: str
    folder: Path
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    timeout: float | None
    resources: Mapping[str, Any]

    @property
    def log(self) -> Path:
        """Where standard output and standard error of the command go."""
        return JobFolder(self.folder).log


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its exit code (negative: the signal that ended it) and whether it was cut off."""

    job: Job
    exit_code: int | None
    timed_out: bool
    seconds: float


@dataclass(frozen=True)
class JobFile:
    """What a worker has to know of its job.

    components: kind → "module:qualified name" of each class that the cell names; argv: the command that
    starts its ranks; provenance: the environment of whoever asked for the run; command: what they typed;
    launched: when the command started, by this machine's monotonic clock, which no setting of the time
    moves (None: it may wait for another machine);
    checkpoint: the file of the cell's checkpoint (empty: none); checkpoint_seconds: between two of them;
    keep_state: whether to leave the scored state for the runner; weights: the file that the cell starts from;
    carried: kind → pickle of a class that no package provides; search: folders that it imports from.
    """

    cell: Cell
    components: Mapping[str, str]
    argv: tuple[str, ...]
    provenance: Mapping[str, Any]
    command: str
    launched: float | None = None
    checkpoint: str = ""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    keep_state: bool = False
    weights: str = ""
    carried: Mapping[str, str] = field(default_factory=dict)
    search: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the job as plain JSON values; `from_json` reads it back."""
        return {**asdict(self), "cell": self.cell.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> JobFile:
        """Return the job that `to_json` wrote; raises KeyError or TypeError on anything else."""
        argv, search = tuple(document["argv"]), tuple(document.get("search", ()))
        return cls(**{**document, "argv": argv, "search": search, "cell": Cell.from_json(document["cell"])})


@dataclass(frozen=True)
class JobFolder:
    """The files that the runner, the executor and the ranks of one job leave for each other.

    job.json            what to run, for the worker
    log                 what the command prints
    progress.jsonl      events, one a line, from rank 0
    result.json         the result, from rank 0
    state.safetensors   the learned state that was scored, from rank 0
    predictions.npz     the predictions of the test tasks, from rank 0, where the cell keeps them
    failed-<rank>.json  the result as far as it goes, from each rank that failed, with "rank" and "time"
    """

    path: Path

    @property
    def job(self) -> Path:
        """The file that names the cell and its classes."""
        return self.path / "job.json"

    @property
    def log(self) -> Path:
        """Where standard output and standard error of the command go."""
        return self.path / "log"

    @property
    def progress(self) -> Path:
        """The events of rank 0."""
        return self.path / "progress.jsonl"

    @property
    def result(self) -> Path:
        """The result of a cell whose ranks all came to the end."""
        return self.path / "result.json"

    @property
    def state(self) -> Path:
        """The learned state that was scored."""
        return self.path / "state.safetensors"

    @property
    def predictions(self) -> Path:
        """The predictions of the test tasks, of all ranks."""
        return self.path / "predictions.npz"

    def predictions_of(self, rank: int) -> Path:
        """The predictions of a rank's share of the test tasks."""
        return self.path / f"predictions-{rank}.npz"

    def failure(self, rank: int | str) -> Path:
        """The file of a rank that failed."""
        return self.path / f"failed-{rank}.json"

    def write_job(self, job: JobFile) -> None:
        """Write the job file; raises StoreError where it cannot be written."""
        write_json(self.job, job.to_json())

    def read_job(self) -> JobFile:
        """Return what to run."""
        return JobFile.from_json(json.loads(self.job.read_bytes()))

    def write_result(self, result: Result) -> None:
        """Write the result of the job."""
        write_json(self.result, result.to_json())

    def write_failure(self, rank: int, result: Result) -> None:
        """Write how this rank failed, with the time of day."""
        write_json(self.failure(rank), {**result.to_json(), "rank": rank, "time": time.time()})

    def append_event(self, event: Event) -> None:
        """Add an event to the progress file; closing it each time lets other machines see it soon."""
        with self.progress.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event.to_json()) + "\n")
