"""The table of verdicts: each score beside the published figures that were measured as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, cast

from metabench.records.section import Column, Section
from metabench.records.summary import Reference, Summary
from metabench.report.columns import AXIS_COLUMNS, STEPS, score, text
from metabench.report.scores import best_first
from metabench.report.summary import Summaries
from metabench.report.verdicts import VERDICT_RULE


class Judged(TypedDict):
    """What a line of the table adds to a summary: one published figure, and the verdict on the score."""

    published: float
    published_half_width: float | None
    source: str
    difference: float
    verdict: str


class Replicated(Summary, Judged):
    """A summary beside one published figure."""


def replication(source: Summaries) -> Section[Replicated]:
    """Return a line for each score and published figure that may be compared, with the verdict."""
    lines = [
        cast(Replicated, {**summary, **_judged(summary, reference, verdict)})
        for summary in sorted(source.ranked, key=best_first)
        for reference, verdict in zip(summary["references"], summary["verdicts"], strict=True)
    ]
    columns: list[Column[Replicated]] = [
        *AXIS_COLUMNS,
        STEPS,
        text("seeds", "seeds", right=True, quiet=True),
        Column("score", score, right=True, key="mean"),
        Column("published", _published, right=True, key="published"),
        text("verdict", "verdict"),
        text("source", "source"),
    ]
    return Section("replication", "Published figures", lines, columns, _notes(lines))


def _judged(summary: Summary, reference: Reference, verdict: str) -> Judged:
    return {
        "published": reference.accuracy,
        "published_half_width": reference.half_width,
        "source": f"{reference.kind}, {reference.checked}: {reference.source}",
        "difference": summary["mean"] - reference.accuracy,
        "verdict": verdict,
    }


def _published(line: Replicated) -> str:
    half = line["published_half_width"]
    return f"{line['published'] * 100:.1f}" + (f" ± {half * 100:.1f}" if half else "") + " %"


def _notes(lines: Sequence[Replicated]) -> list[str]:
    if not lines:
        return []
    words = ("agrees", "lower", "higher", "cannot tell")
    counts = {word: sum(line["verdict"].startswith(word) for line in lines) for word in words}
    counted = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return [f"{VERDICT_RULE}.", *([f"Of {len(lines)}: {counted}."] if counted else [])]
