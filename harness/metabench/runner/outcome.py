"""The result of a job that ended: there is exactly one, whatever the end was."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from metabench.contracts import CONTRACT_VERSION
from metabench.device.host import command_line
from metabench.errors import StoreError
from metabench.records.cell import Cell, Status
from metabench.records.job import TAIL_LINES, JobFolder, Outcome
from metabench.records.progress import Event, TrainEvent
from metabench.records.result import Result
from metabench.runner.rank_failures import find_rank_failure, signal_name

TAIL_BYTES = 16_384
"""How much of the end of a log is read to find its last lines."""


def result_of_job(
    outcome: Outcome,
    cell: Cell,
    last_event: Event | None,
    *,
    provenance: Mapping[str, Any] | None = None,
    started: str = "",
) -> Result:
    """Return the result of a job that ended, whatever its end was and whatever its worker left.

    last_event: of its progress; provenance, started: the environment and the time of the start, where the
    worker could not write them down itself.
    """
    signal = signal_name(outcome.exit_code)
    measured: dict[str, Any] = {"exit_code": outcome.exit_code, "wall_seconds": outcome.seconds}
    without_worker = Result(
        cell, Status.FAILED, environment=provenance or {}, started=started, command=command_line(),
        signal=signal, contract=CONTRACT_VERSION, **measured,
    )  # fmt: skip
    try:
        result = _result_of_job(outcome, last_event, without_worker)
    except (StoreError, OSError, ValueError, KeyError, TypeError) as error:  # a damaged file of the worker's
        reason = f"what its worker left cannot be read: {error}"
        return replace(without_worker, reason=reason, log_tail=_tail(outcome.job.log))
    return replace(
        result,
        cell=cell,
        log_tail=tuple(without_homes(line) for line in result.log_tail),
        signal=result.signal or signal,  # of a rank, or of the command
        environment=result.environment or without_worker.environment,
        **measured,
    )


def _result_of_job(outcome: Outcome, last_event: Event | None, without_worker: Result) -> Result:
    job, folder = outcome.job, JobFolder(outcome.job.folder)
    result = folder.read_result()
    if result is not None:
        return result
    if outcome.timed_out:
        reason = _timeout_reason(job.timeout, last_event)
        return replace(without_worker, status=Status.TIMED_OUT, reason=reason, log_tail=_tail(job.log))
    log = job.log.read_text(errors="replace") if job.log.exists() else ""
    failure = find_rank_failure(folder, log, int(job.resources.get("ranks", 1)))
    if failure is None:
        reason = _exit_reason(outcome.exit_code)
        return replace(without_worker, reason=reason, log_tail=_tail(job.log))
    tail = failure.log_tail or _tail(job.log)
    result = failure.result or without_worker
    return replace(result, reason=failure.reason, log_tail=tail, signal=failure.signal)


def _timeout_reason(timeout: float | None, last_event: Event | None) -> str:
    limit = "the executor's time limit" if timeout is None else f"its timeout of {timeout:g} s"
    reached = ""
    if isinstance(last_event, TrainEvent):
        reached = f"; it had reached step {last_event.step} of {last_event.steps}"
    return f"ended after {limit}{reached}"


def _exit_reason(exit_code: int | None) -> str:
    signal = signal_name(exit_code)
    if signal is None:
        return f"the worker ended with exit status {exit_code} and left no result"
    often = "; often the kernel's answer to memory running out" if signal == "SIGKILL" else ""
    return f"the worker was ended by {signal}{often}"


def _tail(log: Path) -> tuple[str, ...]:
    """The last lines of a log file, however long it is."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return tuple(file.read().decode(errors="replace").rstrip().splitlines()[-TAIL_LINES:])
    except OSError:
        return ()


def without_homes(line: str) -> str:
    """Return a line of a log whose file names begin with their package: results are public, homes are not.

    >>> without_homes('  File "/home/me/venv/lib/python3.11/site-packages/torch/_ops.py", line 1, in f')
    '  File "torch/_ops.py", line 1, in f'
    """
    line = re.sub(r'(?<=File ")/[^"]+(?=")', lambda match: _in_package(match[0]), line)
    home = str(Path.home())
    return line.replace(home, "~") if len(home) > 1 else line


def _in_package(path: str) -> str:
    parts = Path(path).parts[1:]
    roots = [n for n, part in enumerate(parts) if part in ("site-packages", "dist-packages")]
    roots = roots or [n for n, part in enumerate(parts) if re.fullmatch(r"python3\.\d+t?", part)]
    return "/".join(parts[roots[-1] + 1 :] if roots else parts[-3:])
