"""Which rank of a cell fell first, and its last lines: read from what the ranks and torchrun left. No torch.

A rank that fails writes `failed-<rank>.json`. A rank that is killed stands in torchrun's summary alone, and
one that hangs nowhere: the others say that they waited for it.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from metabench.records.result import Result
from metabench.results.store import read_result

TAIL_LINES = 20
RANK_PREFIX = "[rank ${rank}]:"
"""What stands before each line of a rank in the log of its cell."""

GREETING = "[Gloo] Rank "
"""What torch 2.9 prints when ranks have met."""

WAITED = (
    "Timed out waiting", "Connection closed by peer", "Connection reset by peer", "Broken pipe",
)  # fmt: skip
"""What a rank says that lost another one (gloo)."""


@dataclass(frozen=True)
class Fallen:
    """The end of a cell's ranks: what the first one to fall wrote, if it did, why it fell, its last lines."""

    reason: str
    log_tail: tuple[str, ...]
    result: Result | None = None
    signal: str | None = None


def fallen(folder: Path, log: str, ranks: int) -> Fallen | None:
    """How the cell in this job folder fell; None where neither a rank nor torchrun wrote anything of it.

    log: what the command printed; ranks: how many there are, over all machines.
    """
    told = _told(folder)
    waiting = {rank: one for rank, one in told.items() if any(words in one.reason for words in WAITED)}
    own = [rank for rank in told if rank not in waiting]
    rank, exit_code = _root_cause(log) or (None, 0)
    if rank is not None and rank not in told and exit_code != -signal.SIGTERM:
        return _ended(rank, exit_code, log)
    if own:
        return _failed(own[0], told[own[0]], log, ranks)
    if waiting:
        return _waited(waiting, log, ranks)
    return None


def signal_name(exit_code: int | None) -> str | None:
    """The name of the signal that ended a process; None where none did."""
    if exit_code is None or exit_code >= 0:
        return None
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return str(-exit_code)


def last_lines(log: str, rank: int) -> tuple[str, ...]:
    """What this rank printed last, without gloo's greeting."""
    prefix = Template(RANK_PREFIX).substitute(rank=rank)
    lines = [line.removeprefix(prefix) for line in log.splitlines() if line.startswith(prefix)]
    return tuple([line for line in lines if not line.startswith(GREETING)][-TAIL_LINES:])


def _told(folder: Path) -> dict[int, Result]:
    """What each rank that failed wrote, the first one first."""
    found = []
    for path in folder.glob("failed-*.json"):
        told = json.loads(path.read_bytes())
        found.append((float(told["time"]), int(told["rank"]), read_result(path)))
    return {rank: result for _, rank, result in sorted(found, key=lambda one: one[0])}


def _root_cause(log: str) -> tuple[int, int] | None:
    """The rank that torchrun's summary names as the first one to end, and its exit code."""
    _, _, cause = log.rpartition("Root Cause")
    entry = re.search(r"rank +: (\d+) [^\n]*\n *exitcode +: (-?\d+) ", cause)
    return (int(entry[1]), int(entry[2])) if entry else None


def _ended(rank: int, exit_code: int, log: str) -> Fallen:
    name = signal_name(exit_code)
    how = f"was ended by {name}" if name else f"ended with exit status {exit_code} and left no result"
    return Fallen(f"rank {rank} {how}", last_lines(log, rank), signal=name)


def _failed(rank: int, result: Result, log: str, ranks: int) -> Fallen:
    named = ranks > 1 and not result.status.agreed
    reason = result.reason + (f" (rank {rank})" if named else "")
    return Fallen(reason, result.log_tail or last_lines(log, rank), result)


def _waited(waiting: Mapping[int, Result], log: str, ranks: int) -> Fallen:
    first, result = next(iter(waiting.items()))
    absent = [rank for rank in range(ranks) if rank not in waiting]
    if not absent:
        return _failed(first, result, log, ranks)
    reason = f"{_names(absent)} did not answer: {result.reason} (rank {first})"
    return Fallen(reason, last_lines(log, absent[0]) or result.log_tail, result)


def _names(ranks: Sequence[int]) -> str:
    return ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(map(str, ranks))
