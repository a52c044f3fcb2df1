"""Compare two sets of results: is each new cell better, worse, or can no difference be shown?

Scores are compared over the same test tasks and seeds, times only on one machine. Versions of plugins
may differ: that is what a comparison is mostly for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metabench import stats
from metabench.records.row import Row, Shared
from metabench.records.section import Column, Section
from metabench.report.columns import AXIS_COLUMNS, text
from metabench.report.pairs import Pair, by_seed, pairs
from metabench.report.summary import shared_fields
from metabench.results.table import Results
from metabench.text import ABSENT, printable, significant

LEVEL = 0.05

RUN_SPREAD = 1.3
"""Two runs of one loop minutes apart were seen to differ by this factor, though their blocks did not."""


@dataclass(frozen=True)
class Thresholds:
    """What counts as a regression, where it is shown: a drop of the score, a slowdown of a step.

    drop: 0.005 is half a point of accuracy, or half a per cent of the base's score in another unit;
    slowdown: 0.1 is 10 %.
    """

    drop: float = 0.005
    slowdown: float = 0.10


@dataclass(frozen=True)
class Alternated:
    """Step times of two cells whose blocks took turns in one process: new / base with its interval."""

    ratio: stats.Ratio
    pairs: int


@dataclass(frozen=True)
class Comparison:
    """The comparison as a table, and the names of the cells that regressed."""

    section: Section[ComparisonLine]
    regressed: tuple[str, ...]


class ComparisonLine(Shared):
    """One cell on both sides: new - base with its interval, new / base of its step time, and the verdicts.

    size: what a drop of the score is a part of; reason: why the cell counts as regressed, empty if not;
    holds: what the difference was tested for, new "classes" or more "tasks" of the same.
    """

    cell: str
    base_score: str
    new_score: str
    verdict: str
    holds: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    detectable: float | None
    size: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    time_verdict: str
    regressed: bool
    reason: str
    seeds: int
    tasks: int
    left_out: list[str]


def compare(
    base: Results, new: Results, thresholds: Thresholds | None = None, alternated: Alternated | None = None
) -> Comparison:
    """Return every cell of both sides; one that `new` lost or no longer completes has regressed.

    Two single results are paired whatever their cells are. alternated: their step times, measured side by
    side, which replace those that the results hold. Raises RequestError where the two sides have a suite in
    different versions, which measure different things.
    """
    limits = thresholds or Thresholds()
    paired = pairs(base, new)
    lines = [_line(pair) for pair in paired]
    if alternated is not None:
        ratio = alternated.ratio
        _set_ratio(lines[0], ratio.ratio, ratio.low, ratio.high)
    _estimate(paired, lines)
    _judge(lines, limits)
    columns: list[Column[ComparisonLine]] = [
        *AXIS_COLUMNS,
        text("base_score", "base", right=True),
        text("new_score", "new", right=True),
        Column("difference", _difference_text, right=True),
        text("verdict", "score"),
        text("holds", "tested for", quiet=True),
        Column("detectable", _detectable_text, right=True, quiet=True),
        Column("time new/base", _ratio_text, right=True),
        text("time_verdict", "time"),
        text("seeds", "seeds", quiet=True, right=True),
        text("tasks", "test tasks", quiet=True, right=True),
        Column("regression", _regression),
    ]
    left_out = [file for line in lines for file in line["left_out"]]
    notes = [*_notes(limits, alternated), *_left_out_notes(left_out)]
    regressed = tuple(f"{line['cell']}: {line['reason']}" for line in lines if line["regressed"])
    return Comparison(Section("comparison", "Comparison", lines, columns, notes), regressed)


def _notes(limits: Thresholds, alternated: Alternated | None) -> list[str]:
    separate = (
        "Time of a training step on the same machine. These were separate runs: the interval is at least as "
        f"wide as runs of one loop minutes apart were seen to differ, a factor of {RUN_SPREAD}. With "
        "--alternate two cells are timed side by side."
    )
    return [
        f"Difference: new - base over the same tasks and seeds, 95 % interval; verdicts at {LEVEL:.0%}, "
        "corrected by Holm over the cells, the spread between seeds pooled over them. With one seed the "
        "interval says nothing of other seeds. Tested for classes: it holds for new classes too; for tasks: "
        "for the same test classes only, since those of the tasks were not recorded.",
        f"Detectable: where no difference is shown, the smallest that {stats.POWER:.0%} of such comparisons "
        "would have shown in the least favourable place of Holm's order.",
        separate
        if alternated is None
        else f"Time of a training step: {alternated.pairs} pairs of blocks that one process ran in turns.",
        f"A regression is a drop shown and beyond {limits.drop * 100:g} points of accuracy (per cent of "
        f"another score), a slowdown shown and beyond {limits.slowdown:.0%}, or a cell that no longer ends "
        "well.",
    ]


def _left_out_notes(files: Sequence[str], most: int = 5) -> list[str]:
    if not files:
        return []
    more = f" and {len(files) - most} more" if len(files) > most else ""
    listed = printable(", ".join(files[:most]))
    return [f"Left out, a second result of its cell and seed (another machine or version): {listed}{more}."]


def _line(pair: Pair) -> ComparisonLine:
    """Return the line of a cell; differences and verdicts of its scores are filled in over all lines."""
    line: ComparisonLine = {
        **shared_fields(pair.first), "cell": pair.first["cell"],
        "base_score": _score(pair.base, pair.base_positions),
        "new_score": _score(pair.new, pair.new_positions),
        "verdict": "", "holds": "", "difference": None, "low": None, "high": None, "p": None,
        "detectable": None, "size": 1.0, "ratio": None, "ratio_low": None, "ratio_high": None,
        "time_verdict": "",
        "regressed": False, "reason": "", "seeds": 0, "tasks": 0, "left_out": [],
    }  # fmt: skip
    if not pair.base_positions:
        line["verdict"] = "only in new"
    elif pair.lost:
        line["verdict"] = f"{pair.lost} in new"
        _regress(line, f"{pair.lost} in the new results")
    elif not pair.matched:
        line["verdict"] = "no scores in base"
    else:
        _compare_times(pair, line)
        line["seeds"], line["left_out"] = len(pair.matched), pair.left_out
        line["base_score"] = _score(pair.base, [i for i, _ in pair.matched])
        line["new_score"] = _score(pair.new, [i for _, i in pair.matched])
        if len({(row["manifest"], row["count"]) for rows in _rows(pair) for row in rows}) > 1:
            line["verdict"] = "other test tasks"
    return line


def _rows(pair: Pair) -> tuple[list[Row], list[Row]]:
    """Return the matched rows of base and new."""
    return [pair.base.rows[i] for i, _ in pair.matched], [pair.new.rows[i] for _, i in pair.matched]


def _compare_times(pair: Pair, line: ComparisonLine) -> None:
    """Fill in the ratio of step times, which only one machine can show."""
    ours, theirs = _rows(pair)
    if len({row["machine"] for row in (*ours, *theirs)}) > 1:
        line["time_verdict"] = "other machine"
        return
    seconds = [(a["step_seconds"], b["step_seconds"]) for a, b in zip(ours, theirs, strict=True)]
    timed = [(before, after) for before, after in seconds if before and after]
    if not timed:
        return
    measured = stats.time_ratio([after for _, after in timed], [before for before, _ in timed])
    low, high = measured.ratio / RUN_SPREAD, measured.ratio * RUN_SPREAD
    if len(timed) > 1:
        low, high = min(measured.low, low), max(measured.high, high)
    _set_ratio(line, measured.ratio, low, high)


def _set_ratio(line: ComparisonLine, ratio: float, low: float, high: float) -> None:
    line["ratio"], line["ratio_low"], line["ratio_high"] = ratio, low, high


def _regress(line: ComparisonLine, reason: str) -> None:
    """Mark the cell as regressed, for one more reason."""
    line["regressed"] = True
    line["reason"] = f"{line['reason']}; {reason}" if line["reason"] else reason


def _estimate(paired: Sequence[Pair], lines: Sequence[ComparisonLine]) -> None:
    """Fill in the differences; lines of one unit lend each other their spread between seeds."""
    kinds: dict[object, list[_Tested]] = {}
    for pair, line in zip(paired, lines, strict=True):
        if line["verdict"] or not pair.matched:
            continue
        before = np.stack([pair.base.scores[i] for i, _ in pair.matched])
        after = np.stack([pair.new.scores[i] for _, i in pair.matched])
        share = line["unit"] == "share"
        line["tasks"], line["size"] = before.shape[1], 1.0 if share else abs(float(before.mean()))
        kind = "share" if share else (line["metric"], line["dataset"], line["dataset_settings"])
        kinds.setdefault(kind, []).append(_Tested(line, after, before, _redraw(pair)))
    count = sum(len(members) for members in kinds.values())
    for members in kinds.values():
        estimates = stats.differences(
            [(member.after, member.before) for member in members], [member.redraw for member in members]
        )
        for (line, *_, redraw), estimate in zip(members, estimates, strict=True):
            line["holds"] = "tasks" if redraw is None else "classes"
            mean, half = float(estimate.mean), float(estimate.half_width())
            line["difference"], line["low"], line["high"] = mean, mean - half, mean + half
            line["p"] = float(estimate.p_value())
            line["detectable"] = float(estimate.detectable(LEVEL / count))


class _Tested(NamedTuple):
    """A line whose scores [seeds, tasks] are compared, and what redraws the classes of their tasks."""

    line: ComparisonLine
    after: NDArray[np.float64]
    before: NDArray[np.float64]
    redraw: stats.Redraw | None


def _redraw(pair: Pair) -> stats.Redraw | None:
    """Return what redraws the classes of a pair's tasks, by what either side recorded."""
    ours = pair.base.redraw([i for i, _ in pair.matched])
    return ours or pair.new.redraw([i for _, i in pair.matched])


def _judge(lines: Sequence[ComparisonLine], limits: Thresholds) -> None:
    """Fill in verdicts and regressions, corrected over all lines that were tested."""
    tested = [(line, p) for line in lines if (p := line["p"]) is not None]
    for (line, _), p in zip(tested, stats.holm([p for _, p in tested]), strict=True):
        difference = line["difference"] or 0.0
        better = (difference > 0) == line["higher_is_better"]
        line["verdict"] = ("better" if better else "worse") if p <= LEVEL else "no difference shown"
        if line["verdict"] == "worse" and abs(difference) > limits.drop * line["size"]:
            _regress(line, f"score worse: {_difference_text(line)}")
    for line in lines:
        ratio, low, high = line["ratio"], line["ratio_low"], line["ratio_high"]
        if ratio is None or low is None or high is None:
            continue
        line["time_verdict"] = "slower" if low > 1 else "faster" if high < 1 else "no difference shown"
        if low > 1 and ratio > 1 + limits.slowdown:
            _regress(line, f"slower: {_ratio_text(line)}")


def _score(results: Results, positions: Sequence[int]) -> str:
    scored = [i for of_seed in by_seed(results, positions).values() for i in of_seed]
    if not scored:
        return ", ".join(sorted({results.rows[i]["status"] for i in positions})) or ABSENT
    mean = sum(float(results.scores[i].mean()) for i in scored) / len(scored)
    return f"{mean * 100:.2f} %" if results.rows[scored[0]]["unit"] == "share" else significant(mean, 4)


def _difference_text(line: ComparisonLine) -> str:
    if line["difference"] is None or line["low"] is None or line["high"] is None:
        return ABSENT
    half = (line["high"] - line["low"]) / 2
    if line["unit"] == "share":
        return f"{line['difference'] * 100:+.2f} ± {half * 100:.2f} points"
    return f"{line['difference']:+.4g} ± {half:.2g}"


def _detectable_text(line: ComparisonLine) -> str:
    detectable = line["detectable"]
    if line["verdict"] != "no difference shown" or detectable is None or not np.isfinite(detectable):
        return ABSENT
    if line["unit"] == "share":
        return f"{detectable * 100:.2f} points"
    return significant(detectable, 2)


def _ratio_text(line: ComparisonLine) -> str:
    if line["ratio"] is None:
        return ABSENT
    return f"{line['ratio']:.2f} × ({line['ratio_low']:.2f}–{line['ratio_high']:.2f})"


def _regression(line: ComparisonLine) -> str:
    return "yes" if line["regressed"] else ABSENT
