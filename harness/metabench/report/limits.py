"""Whether a configuration was trained enough, and if not, why: the label budget-limited."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from metabench.records.row import Row
from metabench.records.summary import FROM_MEMORY, Reference, Summary
from metabench.report.labels import BELOW_REFERENCES
from metabench.results.table import Results

ANNEALED = "its steps were annealed to zero, which makes any curve flat"
"""Why an annealed configuration is budget-limited: neither a reference nor more training confirms it."""


def budget_limited_reason(rows: Sequence[Row], references: Sequence[Reference]) -> str:
    """Return why a trained configuration is budget-limited; empty if it was trained enough or never trained.

    Trained enough: validation did not improve for the patience that is stated, or its curve is flat over
    its last quarter, in every seed; and every value that is stated is reached: the suite's target in every
    seed, one of the published counterparts. Where neither is stated, the curve alone decides, unless the
    steps were annealed. A row that scores a kept state was not trained: whether the state was trained enough
    is said of the row that learned it.
    """
    first = rows[0]
    if not first["steps"] or not first["train"] or first["state"] == "kept":
        return ""
    if not all(row["validations"] for row in rows):
        return "no validation curve"
    if first["target"] is not None and not all(row["target_step"] is not None for row in rows):
        return "target not reached"
    if any(row["ended_by"] == "target" and not row["flat"] for row in rows):
        return "ended at its target"
    if not all(row["flat"] or row["ended_by"] == "patience" for row in rows):
        return "validation still moving"
    known = [reference for reference in references if reference.checked != FROM_MEMORY]
    if known:
        mean = fmean(row["mean"] for row in rows if row["mean"] is not None)
        if mean < min(reference.accuracy - reference.tolerance() for reference in known):
            return BELOW_REFERENCES
        return ""
    annealed = any(row["annealed"] and row["ended_by"] != "patience" for row in rows)
    return ANNEALED if annealed and first["target"] is None else ""


def accept_annealed(results: Results, summaries: Sequence[Summary]) -> None:
    """Take the label from annealed configurations of which twice the training is shown to give the same."""
    lengths: dict[tuple[str, str], list[Summary]] = {}
    for summary in summaries:
        lengths.setdefault((summary["length_work"], summary["machine"]), []).append(summary)
    for summary in summaries:
        longer = [
            other
            for other in lengths[summary["length_work"], summary["machine"]]
            if min(other["steps_taken"], default=0) >= 2 * max(summary["steps_taken"], default=0)
        ]
        if summary["limited_reason"] == ANNEALED and any(
            results.score_equally(summary["positions"], other["positions"]) for other in longer
        ):
            summary["budget_limited"], summary["limited_reason"] = False, ""
