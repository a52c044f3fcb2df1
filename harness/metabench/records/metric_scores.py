"""What a further metric of a cell gives: scores of the same predictions as those that are ranked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import nan
from statistics import fmean
from typing import Any

from metabench.records.cell import Cell, Spec, component_kind


@dataclass(frozen=True)
class MetricScores:
    """The scores of one further metric, in the order of the test tasks.

    metric: with its settings; source: the distribution and version that provide it; per_task: a score of each
    task, or of a pooled metric the score of all tasks but that one, for the jackknife; pooled: the score of
    all tasks together (None: the metric is not pooled); rescored: when `metabench rescore` added it, from
    stored predictions (empty: the run itself did).
    """

    metric: Spec
    source: str
    unit: str
    higher_is_better: bool
    per_task: tuple[float, ...]
    pooled: float | None = None
    rescored: str = ""

    @property
    def value(self) -> float:
        """The score over all test tasks: that of them together, or the mean of theirs."""
        if self.pooled is not None:
            return self.pooled
        return fmean(self.per_task) if self.per_task else nan

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "MetricScores":
        """Return what a result's JSON holds, null for what is no number; raises KeyError or TypeError."""
        per_task = tuple(nan if value is None else float(value) for value in document["per_task"])
        return cls(**{**document, "metric": Spec.from_json(document["metric"]), "per_task": per_task})


SHARE = "share"
"""The unit of metrics that are a fraction of a whole."""

SCORE_ROUNDING = 1e-6
"""Scores may leave the bounds of their metric by this much, as float32 rounds."""


def score_limits(unit: str, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the least and the greatest score of a metric: its bounds, and 0 and 1 where it is a share."""
    low, high = bounds
    return (max(0.0, low), min(1.0, high)) if unit == SHARE else (low, high)


def metric_title(spec: Spec) -> str:
    """Return the name of a metric, with the settings that are no defaults: `ece`, or `ece:bins=5`."""
    own = spec.counted()["settings"]
    settings = ",".join(f"{name}={own[name]}" for name in sorted(own))
    return f"{spec.name}:{settings}" if settings else spec.name


def metric_slot(spec: Spec) -> str:
    """Return where a cell's plugins and a job's classes have a further metric: `metric:ece`."""
    return f"metric:{metric_title(spec)}"


def component_slots(cell: Cell) -> Iterator[tuple[str, str, Spec]]:
    """Yield every component that a cell runs, further metrics included: its slot, its kind and its spec."""
    for part, spec in cell.components().items():
        yield part, component_kind(part), spec
    for spec in cell.evaluation.metrics:
        yield metric_slot(spec), "metric", spec
