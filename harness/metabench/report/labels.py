"""What a reader must know of a cell, in words: how it was scored, trained and timed; what was published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metabench.report.columns import Record
from metabench.text import ABSENT, brief

TRANSDUCTION: Mapping[tuple[bool, bool | None], str] = {
    (True, True): "transductive",
    (True, False): "transductive (claimed, not found)",
    (True, None): "transductive (claimed, not checked)",
    (False, True): "transductive (found, not claimed)",
    (False, False): "",
    (False, None): "transduction not checked",
}
"""Whether predictions depend on the other queries: what the algorithm claims, and what the check found."""


def flags(record: Record) -> str:
    """The labels of a cell, in words."""
    return "; ".join(_flags(record)) or ABSENT


def disturbances(record: Record) -> str:
    """What a reader must know of a cell's times, cut short: CSV and JSON have all of it."""
    told = ["unstable times"] if record["unstable"] else []
    return "; ".join([*told, *_remarks(record)]) or ABSENT


def labels(record: Record) -> str:
    """The labels of a cell and what disturbed its times."""
    return "; ".join([*_flags(record), *_remarks(record)]) or ABSENT


def reference_text(record: Record) -> str:
    """The published counterparts of a cell, each with whether it agrees."""
    return "; ".join(f"{one}: {verdict(one, record['mean'])}" for one in record["references"]) or ABSENT


def verdict(reference: Any, mean: float) -> str:
    """Whether a score agrees with a reference, or by how many points it differs."""
    if reference.agrees(mean):
        return "agrees"
    return f"differs by {(mean - reference.accuracy) * 100:+.1f}"


def _flags(record: Record) -> list[str]:
    told = [record["transduction"]] if record["transduction"] else []
    if record["budget_limited"]:
        told.append(f"budget-limited ({record['limited_why']})")
    if record["unstable"]:
        told.append("unstable times")
    if record["ended"]:
        told.append(f"{record['ended']} more not measured")
    return told


def _remarks(record: Record) -> list[str]:
    remarks = record["remarks"]
    if not remarks:
        return []
    more = f" (+{len(remarks) - 1} more)" if len(remarks) > 1 else ""
    return [brief(remarks[0], 60) + more]
