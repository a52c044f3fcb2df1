"""Reads what a worker left in the folder of its job, without trust: code of plugins ran there.

Nothing is followed, waited for or read beyond a bound; what breaks a rule is refused with its name.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO, get_type_hints

from metabench.records.cell import Cell, Status
from metabench.records.document import DocumentError, kind_of, read_document
from metabench.records.job import JobFolder
from metabench.records.progress import (
    CheckpointEvent,
    EvaluateEvent,
    Event,
    ResumeEvent,
    SetupEvent,
    TrainEvent,
    ValidationEvent,
    event_from_json,
)
from metabench.records.result import Result
from metabench.records.schema_check import schema_violations

PROGRESS_BYTES = 2**20
"""How much of a progress file is read at once, and the longest line of it that is waited for."""
EVENTS_OF_WORKERS = (SetupEvent, ResumeEvent, TrainEvent, ValidationEvent, CheckpointEvent, EvaluateEvent)
LARGEST_FIGURE = 2.0**63


class WorkerFileError(ValueError):
    """A file that a worker left breaks a rule; the text names the file and the rule."""


def read_worker_result(folder: JobFolder, cell: Cell) -> Result | None:
    """Return the result of a job, None where it left none; raises WorkerFileError."""
    if not os.path.lexists(folder.result):
        return None
    result = _result(folder.result, _document(folder.result), cell)
    if result.status is Status.OK:
        _require(folder.result, _scores_fault(result))
    return result


def read_worker_failures(folder: JobFolder, cell: Cell, ranks: int) -> dict[int, Result]:
    """Return the result of each rank that failed, the earliest first; raises WorkerFileError."""
    failures = []
    for rank in range(ranks):
        path = folder.failure(rank)
        if os.path.lexists(path):
            document = _document(path)
            time = document.pop("time", None)
            if not isinstance(time, (int, float)) or document.pop("rank", None) != rank:
                raise WorkerFileError(f"{path.name}: must have its rank and a time")
            result = _result(path, document, cell)
            if result.status is Status.OK:
                raise WorkerFileError(f"{path.name}: a rank that failed cannot be ok")
            failures.append((time, rank, result))
    return {rank: result for _, rank, result in sorted(failures, key=lambda failure: failure[:2])}


def read_tail(path: Path, most_bytes: int) -> str:
    """Return the last bytes of a regular file as text; empty where there is none."""
    with suppress(OSError), _open(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - most_bytes))
        return file.read(most_bytes).decode(errors="replace")
    return ""


class ProgressReader:
    """Reads the progress file of a worker as it grows."""

    def __init__(self, folder: JobFolder) -> None:
        self.path = folder.progress
        self.start = 0

    def read(self) -> list[Event]:
        """Return the events in the whole lines that are new; lines that hold no event are left out."""
        try:
            with _open(self.path) as file:
                file.seek(self.start)
                data = file.read(PROGRESS_BYTES)
        except OSError:
            return []
        whole = data.rfind(b"\n") + 1
        if not whole and len(data) == PROGRESS_BYTES:
            whole = len(data)  # no event is that long
        self.start += whole
        return [event for line in data[:whole].splitlines() if (event := _event(line)) is not None]


def _document(path: Path) -> dict[str, Any]:
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISREG(mode):
            raise WorkerFileError(f"{path.name}: must be a regular file, is {kind_of(mode)}")
        return read_document(path)
    except (OSError, DocumentError) as error:
        raise WorkerFileError(f"{path.name}: {error}") from error


def _result(path: Path, document: Mapping[str, Any], cell: Cell) -> Result:
    """The result in a document that fits the schema, is of this cell, and can be shown in tables."""
    from metabench.results.rows import row_of  # numpy, which a dry run does not need

    violations = schema_violations(document)
    _require(path, violations[0] if violations else None)
    try:
        result = Result.from_json(document)
        digests = {document["digest"], result.cell.digest}
        row_of(result)
    except Exception as error:  # whatever a strange value makes reading raise, it is no result
        raise WorkerFileError(f"{path.name}: no result: {type(error).__name__}: {error}") from error
    _require(path, None if digests == {cell.digest} else "must be of the job's own cell")
    return result


def _scores_fault(result: Result) -> str | None:
    scores, evaluation = result.scores, result.cell.evaluation
    if scores is None:
        return "an ok result must have scores"
    if scores.metric != evaluation.metric:
        return f"an ok result must have scores of {evaluation.metric!r}, got {scores.metric!r}"
    if len(scores.per_task) != evaluation.tasks:
        return f"an ok result must have {evaluation.tasks} scores, one a task, got {len(scores.per_task)}"
    return None if all(map(math.isfinite, scores.per_task)) else "the scores of an ok result must be finite"


def _require(path: Path, fault: str | None) -> None:
    if fault is not None:
        raise WorkerFileError(f"{path.name}: {fault}")


def _event(line: bytes) -> Event | None:
    """The event in a line of progress; None where it holds none that a worker may tell of."""
    if b"[" in line or line.count(b"{") != 1:  # an event is flat: deeper JSON is not even parsed
        return None
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        event = event_from_json(json.loads(line))
        if type(event) in EVENTS_OF_WORKERS and all(_fits(event)):
            return event
    return None


def _fits(event: Event) -> Iterator[bool]:
    """For each field, whether it is of its declared kind, and a line of progress can show it."""
    hints = get_type_hints(type(event))
    for field in fields(event):
        value, hint = getattr(event, field.name), hints[field.name]
        if hint is str:
            yield isinstance(value, str) and value.isprintable()
        else:
            kinds = (int,) if hint is int else (int, float)
            yield type(value) in kinds and not LARGEST_FIGURE < abs(value) < math.inf


def _open(path: Path) -> BinaryIO:
    """Open a regular file; raises OSError for a link, and for what would have to be waited for."""
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"))
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path}: no regular file")
    return file
