"""Intervals, tests, tiers and times: arrays in, arrays out."""

from metabench.stats.equivalence import (
    EQUAL_LEVEL,
    EQUAL_RELATIVE,
    EQUAL_SHARE,
    equal_margin,
    equal_scores,
    p_beyond,
    unpaired_difference,
)
from metabench.stats.intervals import (
    CONFIDENCE,
    POWER,
    Estimate,
    difference,
    differences,
    estimate,
    half_width,
)
from metabench.stats.jackknife import pseudo_values
from metabench.stats.planning import (
    Design,
    Spread,
    classes_for,
    detectable,
    planned_half_width,
    spread_of,
    tasks_for,
)
from metabench.stats.ranking import TIER_RULE, Ranking, all_pairs, holm, tiers
from metabench.stats.redraw import LEAST_GROUPS, Redraw
from metabench.stats.times import (
    UNSTABLE_EXTREME,
    UNSTABLE_SPREAD,
    Ratio,
    TimeToTarget,
    time_ratio,
    time_to_target,
    unstable,
    welch_ratio,
)

__all__ = [
    "CONFIDENCE",
    "EQUAL_LEVEL",
    "EQUAL_RELATIVE",
    "EQUAL_SHARE",
    "LEAST_GROUPS",
    "POWER",
    "TIER_RULE",
    "UNSTABLE_EXTREME",
    "UNSTABLE_SPREAD",
    "Design",
    "Estimate",
    "Ranking",
    "Ratio",
    "Redraw",
    "Spread",
    "TimeToTarget",
    "all_pairs",
    "classes_for",
    "detectable",
    "difference",
    "differences",
    "equal_margin",
    "equal_scores",
    "estimate",
    "half_width",
    "holm",
    "p_beyond",
    "planned_half_width",
    "pseudo_values",
    "spread_of",
    "tasks_for",
    "tiers",
    "time_ratio",
    "time_to_target",
    "unpaired_difference",
    "unstable",
    "welch_ratio",
]
