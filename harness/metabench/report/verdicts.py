"""Whether a score agrees with a published one, in words: the verdicts of the replication board."""

from __future__ import annotations

import math
from collections.abc import Sequence

from metabench.records.summary import FROM_MEMORY, Reference, Summary
from metabench.report.labels import BELOW_REFERENCES

VERDICT_RULE = (
    "Verdicts: agrees within a margin and both intervals (the margin: 0.5 points from a published 95 % on, 1 "
    "from 80 %, else 2); lower only where training had converged, or took the steps of the publication; "
    "figures from memory have none"
)


def add_verdicts(summaries: Sequence[Summary]) -> None:
    """Fill in `verdicts` of each summary; what scores a kept state is judged by the training that made it."""
    trained = {_training(summary): summary for summary in summaries if summary["steps_taken"]}
    for summary in summaries:
        training = trained.get(_training(summary), summary)
        summary["verdicts"] = tuple(
            verdict(reference, summary["mean"], summary["half_width"], training)
            for reference in summary["references"]
        )


def verdict(reference: Reference, mean: float, half_width: float | None, trained: Summary) -> str:
    """Return "agrees", "higher by …", "lower by …", or "cannot tell" with the budget that it would take.

    mean, half_width: of the score; trained: the summary of the training that it came from.
    """
    points = (mean - reference.accuracy) * 100
    if reference.checked == FROM_MEMORY:
        return f"{points:+.1f}, no verdict: from memory"
    if abs(mean - reference.accuracy) <= reference.tolerance(half_width):
        return "agrees"
    if points > 0:
        return f"higher by {points:.1f}"
    doubt = _doubt(reference, trained)
    return f"cannot tell ({points:+.1f}): {doubt}" if doubt else f"lower by {-points:.1f}"


def _doubt(reference: Reference, trained: Summary) -> str:
    """Return the budget that training needs before a low score says anything; "" where it had that."""
    if trained["kept"]:
        return "the training of its state is not among these results"
    taken = max(trained["steps_taken"], default=0)
    if not taken or trained["ended_by"] == ["patience"]:
        return ""
    moving = trained["limited_reason"] not in ("", BELOW_REFERENCES)
    steps = max(reference.steps, 2 * taken if moving else 0)
    if steps <= taken:
        return ""
    minutes = (trained["training_seconds"] or 0.0) / taken * steps / 60
    time = f"{minutes / 60:.1f} h" if minutes >= 60 else f"{math.ceil(minutes)} min"
    return f"needs at least {steps:,} steps, about {time} on this machine"


def _training(summary: Summary) -> tuple[object, ...]:
    """Return what summaries share that score one and the same training, on whatever tasks."""
    return (
        summary["suite"], summary["version"], summary["algorithm"], summary["algorithm_settings"],
        summary["network_settings"], summary["dataset_settings"], summary["train"], summary["steps"],
        summary["step_tasks"], tuple(summary["seed_list"]),
    )  # fmt: skip
