"""The one result of a job that ended, whatever its end was."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from metabench.jobs import Outcome
from metabench.records import Cell
from metabench.result import Result
from metabench.store import read_result

TAIL_LINES = 20


def result_of(outcome: Outcome, cell: Cell, last: Mapping[str, Any] | None) -> Result:
    """Exactly one result for a job that ended, whatever its end was."""
    folder = outcome.job.folder
    own = folder / "result.json"
    signal_name = _signal_name(outcome.exit_code)
    common: dict[str, Any] = {
        "exit_code": outcome.exit_code, "signal": signal_name, "wall_seconds": outcome.seconds
    }  # fmt: skip
    if own.exists():
        return replace(read_result(own), cell=cell, **common)
    if outcome.timed_out:
        got = f"; it had reached step {last['step']} of {last['steps']}" if last and "steps" in last else ""
        reason = f"ended after its timeout of {outcome.job.timeout:g} s{got}"
        return Result(cell, "timed-out", reason, _tail(outcome.job.log), **common)
    log = outcome.job.log.read_text(errors="replace") if outcome.job.log.exists() else ""
    killed = _killed_rank(log)
    fallen = [] if killed else sorted(folder.glob("failed-*.json"), key=_fell_at)
    if fallen:
        result = read_result(fallen[0])
        rank = f" (rank {fallen[0].stem.removeprefix('failed-')})" if len(fallen) > 1 else ""
        tail = result.log_tail or _tail(outcome.job.log)
        return replace(result, cell=cell, reason=result.reason + rank, log_tail=tail, **common)
    if killed:
        reason = f"rank {killed[0]} was ended by {killed[1]}"
        common["signal"] = killed[1]
    elif signal_name:
        often = "; often the kernel's answer to memory running out" if signal_name == "SIGKILL" else ""
        reason = f"the worker was ended by {signal_name}{often}"
    else:
        reason = f"the worker ended with exit status {outcome.exit_code} and left no result"
    return Result(cell, "failed", reason, _tail(outcome.job.log), **common)


def _killed_rank(log: str) -> tuple[str, str] | None:
    """The rank that torchrun's summary says a signal ended, and the signal; SIGTERM is torchrun's own."""
    for rank, number in re.findall(r"rank\s*: (\d+) .*?exitcode\s*: -(\d+) ", log, flags=re.DOTALL):
        if int(number) != signal.SIGTERM:
            return rank, _signal_name(-int(number)) or number
    return None


def _fell_at(path: Path) -> float:
    return float(json.loads(path.read_bytes())["time"])


def _signal_name(exit_code: int | None) -> str | None:
    if exit_code is None or exit_code >= 0:
        return None
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return str(-exit_code)


def _tail(log: Path) -> tuple[str, ...]:
    """The last lines of a log file, however long it is."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16_384))
            return tuple(file.read().decode(errors="replace").rstrip().splitlines()[-TAIL_LINES:])
    except OSError:
        return ()
