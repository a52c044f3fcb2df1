"""The mean rank of methods over data sets, with an interval that holds for another data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from metabench import stats
from metabench.records.summary import Summary

RULE = (
    "Mean rank: of the mean scores, among the rows that have one for every data set; 1 is best, equal scores "
    "share their mean rank; ± is half a 95 % t interval over data sets, as if these were drawn from many"
)
"""What `mean_ranks` does, in the words of every report."""


def mean_ranks(rows: Sequence[Mapping[object, Summary]], heads: Sequence[object]) -> list[str]:
    """Return the mean rank of each row over all heads, "1.5 ± 0.9"; "" for a row that lacks a head.

    All are "" where fewer than two rows or heads can be compared.
    """
    whole = [number for number, row in enumerate(rows) if set(heads) <= set(row)]
    texts = [""] * len(rows)
    if len(heads) < 2 or len(whole) < 2:
        return texts
    ranks = np.stack([_ranks([rows[number][head] for number in whole]) for head in heads], 1)
    for number, of_row in zip(whole, ranks, strict=True):
        half = stats.half_width(float(of_row.std(ddof=1)), len(heads))
        texts[number] = f"{of_row.mean():.2f} ± {half:.2f}"
    return texts


def _ranks(summaries: Sequence[Summary]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return the ranks of summaries of one data set by their mean scores, [rows]."""
    sign = -1.0 if summaries[0]["higher_is_better"] else 1.0
    means = np.array([sign * summary["mean"] for summary in summaries])
    better, as_good = (means < means[:, None]).sum(1), (means <= means[:, None]).sum(1)
    return np.asarray((better + as_good + 1) / 2)
