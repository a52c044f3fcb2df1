"""Finds the rank of a cell that failed first, from the files of the ranks and the summary of torchrun.

A rank that fails writes a file. Of a rank that is killed, only torchrun's summary tells; of one that hangs,
only the other ranks, which waited for it.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template

from metabench.records.job import RANK_PREFIX, TAIL_LINES
from metabench.records.result import Result

GREETING = "[Gloo] Rank "
"""The beginning of what torch 2.9 prints once ranks are connected."""

LOST_ANOTHER_RANK = (
    "Timed out waiting", "Connection closed by peer", "Connection reset by peer", "Broken pipe",
)  # fmt: skip
"""The errors of gloo in a rank that waited for another one."""


@dataclass(frozen=True)
class RankFailure:
    """The first rank of a cell to fail: the reason, its last lines, and its result where it wrote one."""

    reason: str
    log_tail: tuple[str, ...]
    result: Result | None = None
    signal: str | None = None


def find_rank_failure(failures: Mapping[int, Result], log: str, ranks: int) -> RankFailure | None:
    """Return the failure of the first rank; None where neither a rank nor torchrun wrote down any.

    failures: of the ranks that wrote one, the earliest first; log: the end of what the command printed;
    ranks: how many there are, over all machines.
    """
    waiting = {
        rank: result
        for rank, result in failures.items()
        if any(words in result.reason for words in LOST_ANOTHER_RANK)
    }
    own = [rank for rank in failures if rank not in waiting]
    rank, exit_code = _root_cause(log) or (None, 0)
    if rank is not None and rank not in failures and exit_code != -signal.SIGTERM:
        return _killed(rank, exit_code, log)
    if own:
        return _failed(own[0], failures[own[0]], log, ranks)
    if waiting:
        return _did_not_answer(waiting, log, ranks)
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
    """Return the last lines that this rank printed, without gloo's greeting."""
    prefix = Template(RANK_PREFIX).substitute(rank=rank)
    lines = [line.removeprefix(prefix) for line in log.splitlines() if line.startswith(prefix)]
    return tuple([line for line in lines if not line.startswith(GREETING)][-TAIL_LINES:])


def _root_cause(log: str) -> tuple[int, int] | None:
    """The rank that torchrun's summary names as the first one to end, and its exit code."""
    _, _, cause = log.rpartition("Root Cause")
    entry = re.search(r"rank +: (\d+) [^\n]*\n *exitcode +: (-?\d+) ", cause)
    return (int(entry[1]), int(entry[2])) if entry else None


def _killed(rank: int, exit_code: int, log: str) -> RankFailure:
    name = signal_name(exit_code)
    how = f"was ended by {name}" if name else f"ended with exit status {exit_code} and left no result"
    return RankFailure(f"rank {rank} {how}", last_lines(log, rank), signal=name)


def _failed(rank: int, result: Result, log: str, ranks: int) -> RankFailure:
    named = ranks > 1 and not result.status.agreed
    reason = result.reason + (f" (rank {rank})" if named else "")
    return RankFailure(reason, result.log_tail or last_lines(log, rank), result)


def _did_not_answer(waiting: Mapping[int, Result], log: str, ranks: int) -> RankFailure:
    first, result = next(iter(waiting.items()))
    absent = [rank for rank in range(ranks) if rank not in waiting]
    if not absent:
        return _failed(first, result, log, ranks)
    reason = f"{_names(absent)} did not answer: {result.reason} (rank {first})"
    return RankFailure(reason, last_lines(log, absent[0]) or result.log_tail, result)


def _names(ranks: Sequence[int]) -> str:
    return ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(map(str, ranks))
