"""Labels (validity of a score) and warnings (of a time) in words, and published counterparts of a score."""

from __future__ import annotations

from collections.abc import Mapping

from metabench.records.summary import Labels, Summary
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


BELOW_REFERENCES = "below every published reference"
"""Why a configuration that has converged is labelled budget-limited all the same."""


def flags(line: Labels) -> str:
    """Return the labels of a summary, in words."""
    return "; ".join(_flags(line)) or ABSENT


def labels(line: Labels) -> str:
    """Return the labels of a summary and the first warning of its times."""
    return "; ".join([*_flags(line), *_warnings(line)]) or ABSENT


def reference_text(summary: Summary) -> str:
    """Return the published counterparts of a score with their verdicts, or what differs from the nearest."""
    pairs = zip(summary["references"], summary["verdicts"], strict=True)
    return "; ".join(f"{reference}: {verdict}" for reference, verdict in pairs) or summary["unlike"] or ABSENT


def _flags(line: Labels) -> list[str]:
    words = [f"withdrawn: {line['withdrawn']}"] if line["withdrawn"] else []
    words += [word for word in (line["code_label"], line["transduction"]) if word]
    if line["overlap_unknown"]:
        words.append("overlap unknown")
    if line["budget_limited"]:
        words.append(f"budget-limited ({line['limited_reason']})")
    if line["unstable"]:
        words.append("unstable times")
    if line["kept"]:
        words.append("kept state")
    if line["resumed"]:
        words.append("resumed once" if line["resumed"] == 1 else f"resumed {line['resumed']} times")
    if line["unmeasured"]:
        words.append(f"{line['unmeasured']} more not measured")
    if line["reproduced"]:
        words.append(f"reproduced on {_machines(line['reproduced'])}")
    if line["not_reproduced"]:
        words.append(f"not reproduced on {_machines(line['not_reproduced'])}")
    return words


def _machines(count: int) -> str:
    return f"{count} machine{'s' if count > 1 else ''}"


def _warnings(line: Labels) -> list[str]:
    """Return the first warning cut short; CSV and JSON have all of them."""
    warnings = line["warnings"]
    if not warnings:
        return []
    more = f" (+{len(warnings) - 1} more)" if len(warnings) > 1 else ""
    return [brief(warnings[0], 60) + more]
