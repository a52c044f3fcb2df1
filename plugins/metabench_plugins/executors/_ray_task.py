"""What runs in a Ray cluster: a task that runs one job, and the mailbox that its output goes through."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from metabench.records import Job, JobFolder
from metabench_plugins.executors._running_job import RunningJob

SEND_SECONDS = 0.5
OUTSIDE = "outside"
"""The folder for files that lie outside of the job's own at home: the checkpoint, and starting weights."""


@dataclass(frozen=True)
class Order:
    """A job as it travels.

    home: the job's folder on the machine that sends it; python: the interpreter there; files: by their path
    there, all that the job reads (None: the folder is visible here under the same path); checkpoint: the path
    of its checkpoint there (empty: none).
    """

    id: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    timeout: float | None
    grace_seconds: float
    home: str
    python: str
    files: Mapping[str, bytes] | None
    checkpoint: str = ""


@dataclass(frozen=True)
class End:
    """How a job ended; files: by name, what its folder holds; checkpoint: the one that it left, or None."""

    exit_code: int | None
    timed_out: bool
    seconds: float
    files: Mapping[str, bytes]
    checkpoint: bytes | None


@dataclass(frozen=True)
class Piece:
    """A piece of a file of a job's folder, from this offset on."""

    job: str
    name: str
    offset: int
    data: bytes


class Mailbox:
    """Holds pieces of files until they are taken; an actor of Ray."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def put(self, pieces: list[Piece]) -> None:
        """Add pieces."""
        self.pieces += pieces

    def take(self) -> list[Piece]:
        """Return the pieces that have come since the last call."""
        pieces, self.pieces = self.pieces, []
        return pieces


def run_order(order: Order, mailbox: Any) -> End:
    """Run a job on this machine, under its supervisor; a cancelled or lost task ends it."""
    with TemporaryDirectory(prefix="metabench-ray-") as scratch:
        folder = Path(order.home if order.files is None else scratch)
        moved = _unpack(order, folder)
        job = Job(order.id, folder, tuple(moved(order.argv)), order.environment, order.timeout, {})
        post = _Post(job, mailbox) if order.files is not None else None
        with RunningJob(job, order.grace_seconds) as running:
            while (outcome := running.wait(SEND_SECONDS)) is None:
                if post is not None:
                    post.send()
        files, checkpoint = {}, None
        if order.files is not None:
            files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
            files.pop(JobFolder(folder).job.name, None)  # it names places of this machine
            left = Path(moved(order.checkpoint)) if order.checkpoint else None
            checkpoint = left.read_bytes() if left and left.exists() else None
        return End(outcome.exit_code, outcome.timed_out, outcome.seconds, files, checkpoint)


def _unpack(order: Order, folder: Path) -> Callable[[Any], Any]:
    """Write the job's files; return what names this machine's places in a JSON value in place of home's."""
    places: dict[str, str] = {}
    if order.files is not None:
        (folder / OUTSIDE).mkdir()
        outside = [path for path in (*order.files, order.checkpoint) if Path(path).parent != Path(order.home)]
        places = {path: str(folder / OUTSIDE / Path(path).name) for path in outside if path}
        places[order.home] = str(folder)  # the last: the others may lie below it

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [moved(inner) for inner in value]
        if value == order.python:
            return sys.executable
        for home, here in places.items() if isinstance(value, str) else ():
            value = value.replace(home, here)
        return value

    for home, data in (order.files or {}).items():
        path = Path(moved(home))
        is_job = path == JobFolder(folder).job
        path.write_bytes(json.dumps(moved(json.loads(data))).encode() if is_job else data)
    return moved


class _Post:
    """Sends what is new in the log and in the progress of a job."""

    def __init__(self, job: Job, mailbox: Any) -> None:
        self.job, self.mailbox = job, mailbox
        self.offsets = dict.fromkeys((JobFolder(job.folder).log, JobFolder(job.folder).progress), 0)

    def send(self) -> None:
        """Send the new ends of both files; one that was cut is sent anew."""
        pieces = []
        for path, offset in self.offsets.items():
            size = path.stat().st_size if path.exists() else 0
            if size == offset:
                continue
            offset = offset if size > offset else 0
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(size - offset)
            self.offsets[path] = offset + len(data)
            pieces.append(Piece(self.job.id, path.name, offset, data))
        if pieces:
            self.mailbox.put.remote(pieces)
