"""The result of a job that ended: there is exactly one, whatever the end was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from metabench.contracts import CONTRACT_VERSION
from metabench.device.host import command_line
from metabench.plugin_calls import describe_exception
from metabench.records.cell import Cell, Status
from metabench.records.job import TAIL_LINES, JobFolder, Outcome
from metabench.records.progress import Event, TrainEvent
from metabench.records.result import Result
from metabench.runner.rank_failures import find_rank_failure, signal_name
from metabench.runner.worker_files import (
    WorkerFileError,
    read_tail,
    read_worker_failures,
    read_worker_result,
)
from metabench.text import printable

LOG_BYTES = 2**20
"""How much of the end of a log is read: torchrun's summary and the last lines of each rank are there."""
LINE_CHARACTERS = 2_000
"""How much is kept of one line of a log, or of a reason."""


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
    except Exception as error:  # whatever a worker's files make reading raise, the run goes on
        own = isinstance(error, WorkerFileError)
        reason = f"what its worker left cannot be read: {error if own else describe_exception(error)}"
        result = replace(without_worker, reason=reason, log_tail=_tail(_log(outcome)))
    return replace(
        result,
        cell=cell,
        reason=_plain(result.reason),
        log_tail=tuple(_plain(without_homes(line)) for line in result.log_tail[-TAIL_LINES:]),
        signal=result.signal or signal,  # of a rank, or of the command
        environment=result.environment or without_worker.environment,
        **measured,
    )


def _result_of_job(outcome: Outcome, last_event: Event | None, without_worker: Result) -> Result:
    job, folder, cell = outcome.job, JobFolder(outcome.job.folder), without_worker.cell
    result = read_worker_result(folder, cell)
    if result is not None:
        return result
    log = _log(outcome)
    if outcome.timed_out:
        reason = _timeout_reason(job.timeout, last_event)
        return replace(without_worker, status=Status.TIMED_OUT, reason=reason, log_tail=_tail(log))
    ranks = int(job.resources.get("ranks", 1))
    failure = find_rank_failure(read_worker_failures(folder, cell, ranks), log, ranks)
    if failure is None:
        return replace(without_worker, reason=_exit_reason(outcome.exit_code), log_tail=_tail(log))
    tail = failure.log_tail or _tail(log)
    result = failure.result or without_worker
    return replace(result, reason=failure.reason, log_tail=tail, signal=failure.signal)


def _log(outcome: Outcome) -> str:
    return read_tail(outcome.job.log, LOG_BYTES)


def _tail(log: str) -> tuple[str, ...]:
    return tuple(log.rstrip().splitlines()[-TAIL_LINES:])


def _plain(text: str) -> str:
    """A text of a worker's as it is stored: without control characters, of a bounded length."""
    text = printable(text)
    return text if len(text) <= LINE_CHARACTERS else f"{text[:LINE_CHARACTERS]}…"


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
