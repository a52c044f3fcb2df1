"""What the runner hands to an executor, and what it gets back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """One cell to run as a command of its own.

    folder: the job's own folder, shared with the machine that runs it; argv: the command, already
    wrapped by the backend; environment: variables to add; timeout: seconds, None for no limit;
    resources: "ranks", "gpus" (on each machine) and every setting of the backend (such as "threads"), for
    batch systems.
    The command's output goes to `folder / "log"`.
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
        return self.folder / "log"


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its exit code (negative: the signal that ended it) and whether it was cut off."""

    job: Job
    exit_code: int | None
    timed_out: bool
    seconds: float
