"""The table of searches: which settings were chosen, what they score, and what choosing them cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from metabench.records.section import Column, Section
from metabench.records.summary import Summary
from metabench.report.columns import (
    COUNT_COLUMNS,
    DATASET,
    NEW_CLASSES,
    SUITE,
    number,
    protocol,
    score,
    task,
    text,
)
from metabench.report.summary import Summaries
from metabench.text import ABSENT, significant

NOTES = (
    "Validation: the best score of a trial after 1, 2, 4, … trials and after all; trial 0 has the settings "
    "that the suite states. Trials see no test task; the score is of the test tasks, by other seeds.",
    "Tuning s: seconds of all trials of the search, one after the other.",
)


def tuning(source: Summaries) -> Section[Summary]:
    """Return a line for each searched configuration: its score against the number of trials."""
    searched = sorted((s for s in source.summaries if s["tuning_trials"] is not None), key=_order)
    columns: list[Column[Summary]] = [
        SUITE,
        DATASET,
        Column("task", task, quiet=True),
        text("method_name", "method"),
        text("network", "network", quiet=True),
        text("tuning_trials", "trials", right=True),
        text("tuning_chosen", "chosen", right=True),
        Column("settings", _settings),
        Column("validation", _curve, right=True),
        Column("score", score, right=True, key="mean"),
        *([NEW_CLASSES] if any(summary["redrawn"] for summary in searched) else []),
        number("tuning_seconds", "tuning s"),
        text("metric", "metric", quiet=True),
        *COUNT_COLUMNS,
        text("machine", "machine", quiet=True),
    ]
    return Section("tuning", "Tuning", searched, columns, NOTES if searched else ())


def _order(summary: Summary) -> tuple[Any, ...]:
    return (*protocol(summary), summary["method_name"], summary["network"], summary["tuning_trials"])


def _settings(summary: Summary) -> str:
    """Return the values of the settings that were searched: `inner_rate=0.164, steps=2`."""
    settings = json.loads(summary["tuning_settings"])
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in settings.items()) or ABSENT


def _curve(summary: Summary) -> str:
    """Return the best validation score after 1, 2, 4, … trials and after all, as `0.71 → 0.74 → 0.78`."""
    points: Sequence[Sequence[float]] = summary["tuning_curve"]
    shown = [best for count, best in points if count == points[-1][0] or not int(count) & (int(count) - 1)]
    return " → ".join(significant(best) for best in shown) or ABSENT
