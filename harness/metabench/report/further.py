"""Further metrics in tables: columns, figures and notes of scores that select and rank nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from metabench.records.section import Column
from metabench.records.summary import Summary
from metabench.text import ABSENT, score_text


def further_titles(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the titles of the further metrics that some of these rows or summaries have, in their order."""
    return list(dict.fromkeys(title for record in records for title in record["further"]))


def further_columns(summaries: Sequence[Summary]) -> list[Column[Summary]]:
    """Return a column for each further metric, headed by its title; a line may lack it."""
    return [_column(title) for title in further_titles(summaries)]


def further_figures(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the further metrics of a row or a summary as figures of their own.

    `further.ece` is the value, `further.ece.half_width` half of its 95 % interval.
    """
    figures: dict[str, float | None] = {}
    for title, metric in record["further"].items():
        figures[_key(title)] = metric["value"]
        figures[f"{_key(title)}.half_width"] = metric["half_width"]
    return figures


def further_notes(summaries: Sequence[Summary]) -> list[str]:
    """Return what a reader must know of the further metrics."""
    titles = further_titles(summaries)
    if not titles:
        return []
    metrics = [(title, metric) for s in summaries for title, metric in s["further"].items()]
    notes = [f"{', '.join(titles)}: of the same predictions; they select and rank nothing."]
    pooled = list(dict.fromkeys(title for title, metric in metrics if metric["pooled"]))
    if pooled:
        notes.append(
            f"{', '.join(pooled)}: of all test tasks together, its interval by the jackknife over tasks."
        )
    rescored = list(dict.fromkeys(title for title, metric in metrics if metric["rescored"]))
    if rescored:
        dates = max(metric["rescored"] for _, metric in metrics)
        notes.append(f"{', '.join(rescored)}: added later, from stored predictions (last on {dates}).")
    return notes


def _key(title: str) -> str:
    return f"further.{title}"


def _column(title: str) -> Column[Summary]:
    def show(summary: Summary) -> str:
        metric = summary["further"].get(title)
        if metric is None or metric["value"] is None:
            return ABSENT
        return score_text(metric["value"], metric["half_width"], metric["unit"])

    return Column(title, show, right=True, key=_key(title))
