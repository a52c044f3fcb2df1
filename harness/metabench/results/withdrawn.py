"""Results that were withdrawn: `withdrawn.toml` beside them, or in one of the two folders above.

[[withdrawn]]
digest = "0123…"          # of the cell, as in the result's file: 64 hexadecimal digits
reason = "trained on test images"
date = 2026-11-28
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metabench.records.document import DocumentError, read_bytes

NAME = "withdrawn.toml"
LEVELS = 3
"""The folders in which the file may be: of the machine, of the suite, of all results."""

LARGEST_BYTES = 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Withdrawal:
    """Why and when the result of a cell was withdrawn, for all files beneath `folder`."""

    folder: Path
    digest: str
    reason: str
    date: str

    def __str__(self) -> str:
        return ", ".join(part for part in (self.reason or "no reason given", self.date) if part)


@dataclass(frozen=True)
class WithdrawalList:
    """One file of withdrawals, and what is wrong with it."""

    path: Path
    withdrawals: tuple[Withdrawal, ...]
    problems: tuple[str, ...]


def lists_beside(files: Iterable[str]) -> list[WithdrawalList]:
    """Return the lists in the folders of these files and above them."""
    folders = {folder for file in {Path(file).parent for file in files} for folder in _above(file)}
    return [read_list(folder / NAME) for folder in sorted(folders) if (folder / NAME).exists()]


def _above(folder: Path) -> Iterator[Path]:
    yield from (folder, *folder.parents)[:LEVELS]


def read_list(path: Path) -> WithdrawalList:
    """Return the withdrawals in a file; an entry that names no digest withdraws nothing and is a problem."""
    try:
        document = tomllib.loads(read_bytes(path, LARGEST_BYTES).decode())
    except (DocumentError, ValueError, RecursionError) as error:
        return WithdrawalList(path, (), (f"cannot be read: {str(error) or 'nested too deeply'}",))
    entries = document.pop("withdrawn", [])
    problems = [f"unknown key {name!r:.60}; known: withdrawn" for name in document]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return WithdrawalList(path, (), (*problems, "withdrawn must be tables: [[withdrawn]]"))
    withdrawals = []
    for number, entry in enumerate(entries, 1):
        problems += [f"entry {number}: {problem}" for problem in _problems(entry)]
        digest, reason, date = (entry.get(name) for name in ("digest", "reason", "date"))
        if isinstance(digest, str) and _DIGEST.fullmatch(digest):
            reason = " ".join(reason.split()) if isinstance(reason, str) else ""
            date = str(date) if isinstance(date, datetime.date) else ""
            withdrawals.append(Withdrawal(path.parent, digest, reason, date))
    return WithdrawalList(path, tuple(withdrawals), tuple(problems))


def _problems(entry: Mapping[str, Any]) -> Iterator[str]:
    digest, reason = entry.get("digest"), entry.get("reason")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        yield f"digest must be the 64 hexadecimal digits of a result's cell, got {digest!r:.80}"
    if not isinstance(reason, str) or not reason.strip():
        yield "reason must say why the result was withdrawn"
    if not isinstance(entry.get("date"), datetime.date):
        yield f"date must be a day such as 2026-11-28, got {entry.get('date')!r:.40}"
    for name in entry.keys() - {"digest", "reason", "date"}:
        yield f"unknown key {name!r:.60}; known: digest, reason, date"


def reasons(lists: Iterable[WithdrawalList]) -> dict[str, list[Withdrawal]]:
    """Return the withdrawals of each cell's digest."""
    by_digest: dict[str, list[Withdrawal]] = {}
    for withdrawal_list in lists:
        for withdrawal in withdrawal_list.withdrawals:
            by_digest.setdefault(withdrawal.digest, []).append(withdrawal)
    return by_digest


def reason_of(file: str, digest: str, by_digest: Mapping[str, list[Withdrawal]]) -> str:
    """Return why a result was withdrawn, "" where it was not."""
    for withdrawal in by_digest.get(digest, ()):
        if Path(file).is_relative_to(withdrawal.folder):
            return str(withdrawal)
    return ""
