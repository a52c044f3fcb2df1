"""Checks of `withdrawn.toml`: every entry names a result that is there, says why and when."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from metabench.publishing.findings import Finding
from metabench.publishing.members import Member
from metabench.results.withdrawn import lists_beside, reason_of, reasons


def withdrawal_findings(paths: Iterable[Path | str], members: Sequence[Member]) -> Iterator[Finding]:
    """What is wrong with lists of withdrawn results, and a notice for each result that tables strike through.

    A digest is unknown only where the whole folder of its list was read.
    """
    roots = [Path(path).absolute() for path in paths]
    lists = lists_beside(member.path for member in members)
    digests = {str(member.row["digest"]) for member in members}
    for withdrawal_list in lists:
        file, folder = str(withdrawal_list.path), withdrawal_list.path.parent
        for problem in withdrawal_list.problems:
            yield Finding(file, "withdrawn", problem)
        if not any(folder.is_relative_to(root) for root in roots):
            continue
        for withdrawal in withdrawal_list.withdrawals:
            if withdrawal.digest not in digests:
                yield Finding(file, "withdrawn", f"no result beneath has the digest {withdrawal.digest}")
    by_digest = reasons(lists)
    for member in members:
        reason = reason_of(os.fspath(member.path), str(member.row["digest"]), by_digest)
        if reason:
            yield Finding(member.path, "withdrawn", f"will be struck through: {reason}", serious=False)
