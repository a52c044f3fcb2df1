"""The one result of a job that ended, whatever its end was."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from metabench.device.host import command_line
from metabench.errors import StoreError
from metabench.records.cell import Cell, Status
from metabench.records.job import Outcome
from metabench.records.result import Result
from metabench.results.store import read_result
from metabench.runner.rank_failures import TAIL_LINES, fallen, signal_name


def result_of(
    outcome: Outcome,
    cell: Cell,
    last: Mapping[str, Any] | None,
    *,
    provenance: Mapping[str, Any] | None = None,
    started: str = "",
) -> Result:
    """Exactly one result for a job that ended, whatever its end was and whatever its worker left.

    last: the last event of its progress; provenance, started: the environment and the time of the start,
    where the worker could not write them down itself.
    """
    here = Result(cell, Status.FAILED, environment=provenance or {}, started=started, command=command_line())
    ended: dict[str, Any] = {
        "exit_code": outcome.exit_code,
        "signal": signal_name(outcome.exit_code),
        "wall_seconds": outcome.seconds,
    }
    try:
        result = _result_of(outcome, last, replace(here, **ended))
    except (StoreError, OSError, ValueError, KeyError, TypeError) as error:  # a damaged file of the worker's
        reason = f"what its worker left cannot be read: {error}"
        return replace(here, reason=reason, log_tail=_tail(outcome.job.log), **ended)
    signal = result.signal or ended["signal"]  # of a rank, or of the command
    told = tuple(without_homes(line) for line in result.log_tail)
    result = replace(result, cell=cell, log_tail=told, **{**ended, "signal": signal})
    return result if result.environment else replace(result, environment=here.environment)


def _result_of(outcome: Outcome, last: Mapping[str, Any] | None, here: Result) -> Result:
    job = outcome.job
    own = job.folder / "result.json"
    if own.exists():
        return read_result(own)
    if outcome.timed_out:
        limit = "the executor's time limit" if job.timeout is None else f"its timeout of {job.timeout:g} s"
        got = f"; it had reached step {last['step']} of {last['steps']}" if last and "steps" in last else ""
        reason = f"ended after {limit}{got}"
        return replace(here, status=Status.TIMED_OUT, reason=reason, log_tail=_tail(job.log))
    log = job.log.read_text(errors="replace") if job.log.exists() else ""
    first = fallen(job.folder, log, here.cell.ranks)
    if first is not None:
        tail = first.log_tail or _tail(job.log)
        return replace(first.result or here, reason=first.reason, log_tail=tail, signal=first.signal)
    if here.signal:
        often = "; often the kernel's answer to memory running out" if here.signal == "SIGKILL" else ""
        reason = f"the worker was ended by {here.signal}{often}"
    else:
        reason = f"the worker ended with exit status {outcome.exit_code} and left no result"
    return replace(here, reason=reason, log_tail=_tail(job.log))


def _tail(log: Path) -> tuple[str, ...]:
    """The last lines of a log file, however long it is."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16_384))
            return tuple(file.read().decode(errors="replace").rstrip().splitlines()[-TAIL_LINES:])
    except OSError:
        return ()


def without_homes(line: str) -> str:
    """A line of a log whose file names begin with their package: results are published, homes are private.

    >>> without_homes('  File "/home/me/venv/lib/python3.11/site-packages/torch/_ops.py", line 1, in f')
    '  File "torch/_ops.py", line 1, in f'
    """
    line = re.sub(r'(?<=File ")/[^"]+(?=")', lambda found: _in_package(found[0]), line)
    home = str(Path.home())
    return line.replace(home, "~") if len(home) > 1 else line


def _in_package(path: str) -> str:
    parts = Path(path).parts[1:]
    roots = [n for n, part in enumerate(parts) if part in ("site-packages", "dist-packages")]
    roots = roots or [n for n, part in enumerate(parts) if re.fullmatch(r"python3\.\d+t?", part)]
    return "/".join(parts[roots[-1] + 1 :] if roots else parts[-3:])
