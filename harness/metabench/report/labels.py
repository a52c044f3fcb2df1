"""Labels (validity of a score) and warnings (of a time) in words, and published counterparts of a score."""

from __future__ import annotations

from collections.abc import Mapping

from metabench.records.section import Record
from metabench.report.references import Reference
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
    """Return the labels of a summary, in words."""
    return "; ".join(_flags(record)) or ABSENT


def labels(record: Record) -> str:
    """Return the labels of a summary and the first warning of its times."""
    return "; ".join([*_flags(record), *_warnings(record)]) or ABSENT


def reference_text(record: Record) -> str:
    """Return the published counterparts of a score, each with whether it agrees."""
    return "; ".join(f"{ref}: {verdict(ref, record['mean'])}" for ref in record["references"]) or ABSENT


def verdict(reference: Reference, mean: float) -> str:
    """Return whether a score agrees with a reference, or by how many points it differs."""
    if reference.agrees(mean):
        return "agrees"
    return f"differs by {(mean - reference.accuracy) * 100:+.1f}"


def _flags(record: Record) -> list[str]:
    words = [record["transduction"]] if record["transduction"] else []
    if record["budget_limited"]:
        words.append(f"budget-limited ({record['limited_why']})")
    if record["unstable"]:
        words.append("unstable times")
    if record["ended"]:
        words.append(f"{record['ended']} more not measured")
    return words


def _warnings(record: Record) -> list[str]:
    """Return the first warning cut short; CSV and JSON have all of them."""
    warnings = record["remarks"]
    if not warnings:
        return []
    more = f" (+{len(warnings) - 1} more)" if len(warnings) > 1 else ""
    return [brief(warnings[0], 60) + more]
