"""Two sets of results, cell by cell: is the new one better, worse, or can no difference be shown?

Scores are compared over the same test tasks and seeds, times only on one machine. Versions of plugins
may differ: that is what a comparison is mostly for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metabench import stats
from metabench.errors import RequestError
from metabench.records.cell import Status
from metabench.records.section import Column, Section
from metabench.report.columns import AXIS_COLUMNS, text
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

    section: Section
    regressed: tuple[str, ...]


def compare(
    base: Results, new: Results, thresholds: Thresholds | None = None, alternated: Alternated | None = None
) -> Comparison:
    """Every cell of `base` and `new`, paired; a cell that `new` lost or no longer completes has regressed.

    Two single results are paired whatever their cells are. alternated: their step times, measured side by
    side, which replace those that the results hold. Raises RequestError where the two sides have a suite in
    different versions, which measure different things.
    """
    limits = thresholds or Thresholds()
    single = len(base) == len(new) == 1
    if not single:
        _require_common_versions(base, new)
    pairs = [([0], [0])] if single else _pairs(base, new)
    lines = [_line(base, new, ours, theirs) for ours, theirs in pairs]
    if alternated is not None:
        ratio = alternated.ratio
        lines[0] |= {"ratio": ratio.ratio, "ratio_low": ratio.low, "ratio_high": ratio.high}
    _estimate(lines)
    _judge(lines, limits)
    columns = [
        *AXIS_COLUMNS,
        text("base_score", "base", right=True),
        text("new_score", "new", right=True),
        Column("difference", _difference_text, right=True),
        text("verdict", "score"),
        Column("detectable", _detectable_text, right=True, quiet=True),
        Column("time new/base", _ratio_text, right=True),
        text("time_verdict", "time"),
        text("seeds", "seeds", quiet=True, right=True),
        text("tasks", "test tasks", quiet=True, right=True),
        Column("regression", lambda r: "yes" if r["regressed"] else ABSENT),
    ]
    left_out = [file for line in lines for file in line["left_out"]]
    notes = [*_notes(limits, alternated), *_left_out_notes(left_out)]
    regressed = tuple(f"{line['cell']}: {line['why']}" for line in lines if line["regressed"])
    return Comparison(Section("comparison", "Comparison", lines, columns, notes), regressed)


def _require_common_versions(base: Results, new: Results) -> None:
    """Raises RequestError where a suite of both sides has no version in common."""
    ours, theirs = _versions(base), _versions(new)
    apart = [
        f"{name} is version {_listed(ours[name])} in the base results, "
        f"{_listed(theirs[name])} in the new ones"
        for name in sorted(set(ours) & set(theirs))
        if not ours[name] & theirs[name]
    ]
    if apart:
        raise RequestError(
            f"{printable('; '.join(apart))}: versions of a suite measure different things, so their cells "
            "cannot be paired; run the same version on both sides"
        )


def _versions(table: Results) -> dict[str, set[int]]:
    """The versions of each suite among the results."""
    versions: dict[str, set[int]] = {}
    for row in table.rows:
        versions.setdefault(row["suite"], set()).add(row["version"])
    return versions


def _listed(versions: set[int]) -> str:
    return " and ".join(map(str, sorted(versions)))


def _notes(limits: Thresholds, alternated: Alternated | None) -> list[str]:
    separate = (
        "Time of a training step on the same machine. These were separate runs: the interval is at least as "
        f"wide as runs of one loop minutes apart were seen to differ, a factor of {RUN_SPREAD}. With "
        "--alternate two cells are timed side by side."
    )
    return [
        f"Difference: new - base over the same tasks and seeds, 95 % interval; verdicts at {LEVEL:.0%}, "
        "corrected by Holm over the cells, the spread between seeds pooled over them. With one seed the "
        "interval says nothing of other seeds.",
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


def _pairs(base: Results, new: Results) -> list[tuple[list[int], list[int]]]:
    """Positions of the results of each cell in both tables, over seeds."""
    groups: dict[str, tuple[list[int], list[int]]] = {}
    for side, table in enumerate((base, new)):
        for i, row in enumerate(table.rows):
            groups.setdefault(row["match"], ([], []))[side].append(i)
    return list(groups.values())


def _line(base: Results, new: Results, ours: Sequence[int], theirs: Sequence[int]) -> dict[str, Any]:
    told = dict(new.rows[theirs[0]] if theirs else base.rows[ours[0]])
    told |= {
        "base_score": _score(base, ours), "new_score": _score(new, theirs), "verdict": "", "difference": None,
        "low": None, "high": None, "p": None, "ratio": None, "ratio_low": None, "ratio_high": None,
        "time_verdict": "", "regressed": False, "why": "", "seeds": 0, "tasks": 0, "scores": None,
        "detectable": None, "left_out": [],
    }  # fmt: skip
    a, b = _by_seed(base, ours), _by_seed(new, theirs)
    if len(ours) == len(theirs) == len(a) == len(b) == 1:  # two single results, of whatever seeds
        a, b = dict.fromkeys([0], *a.values()), dict.fromkeys([0], *b.values())
    lost = sorted(set(a) - set(b))
    if not ours:
        return told | {"verdict": "only in new"}
    if lost:
        status = next((new.rows[i]["status"] for i in theirs if new.rows[i]["seed"] in lost), "absent")
        told |= {"verdict": f"{status} in new", "regressed": True, "why": f"{status} in the new results"}
        return told
    both = {seed: _one_of_each(base, new, a[seed], b[seed]) for seed in sorted(set(a) & set(b))}
    if not both:
        return told | {"verdict": "no scores in base"}
    told["seeds"] = len(both)
    told["left_out"] = [
        str(table.rows[i]["file"])
        for side, (table, found) in enumerate(((base, a), (new, b)))
        for seed, chosen in both.items()
        for i in found[seed]
        if i != chosen[side]
    ]
    ours, theirs = [one for one, _ in both.values()], [one for _, one in both.values()]
    told |= {"base_score": _score(base, ours), "new_score": _score(new, theirs)}
    return told | _scores(base, new, ours, theirs)


def _one_of_each(base: Results, new: Results, ours: Sequence[int], theirs: Sequence[int]) -> tuple[int, int]:
    """The latest results of a seed that one machine made, or the latest of either side."""
    pairs = [(a, b) for a in ours for b in theirs]
    return max(
        pairs,
        key=lambda p: (
            base.rows[p[0]]["machine"] == new.rows[p[1]]["machine"],
            base.rows[p[0]]["started"],
            new.rows[p[1]]["started"],
        ),
    )


def _scores(base: Results, new: Results, ours: Sequence[int], theirs: Sequence[int]) -> dict[str, Any]:
    told = _times([base.rows[i] for i in ours], [new.rows[i] for i in theirs])
    rows = [base.rows[i] for i in ours] + [new.rows[i] for i in theirs]
    if len({(row["manifest"], row["count"]) for row in rows}) > 1:
        return told | {"verdict": "other test tasks"}
    before = np.stack([base.scores[i] for i in ours])
    after = np.stack([new.scores[i] for i in theirs])
    share = rows[0]["unit"] == "share"
    return told | {
        "size": 1.0 if share else abs(float(before.mean())),
        "kind": "share" if share else (rows[0]["metric"], rows[0]["dataset"], rows[0]["dataset_settings"]),
        "tasks": before.shape[1],
        "scores": (after, before),
    }


def _estimate(lines: Sequence[dict[str, Any]]) -> None:
    """Fills in the differences; lines of one unit lend each other their spread between seeds."""
    kinds: dict[Any, list[dict[str, Any]]] = {}
    for line in lines:
        if line["scores"] is not None:
            kinds.setdefault(line["kind"], []).append(line)
    count = sum(len(each) for each in kinds.values())
    for each in kinds.values():
        for line, found in zip(each, stats.differences([line["scores"] for line in each]), strict=True):
            half = float(found.half_width())
            line["difference"] = float(found.mean)
            line |= {"low": line["difference"] - half, "high": line["difference"] + half}
            line |= {"p": float(found.p_value()), "detectable": float(found.detectable(LEVEL / count))}
    for line in lines:
        line.pop("kind", None)
        del line["scores"]


def _times(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len({row["machine"] for row in (*ours, *theirs)}) > 1:
        return {"time_verdict": "other machine"}
    pairs = [(a["step_seconds"], b["step_seconds"]) for a, b in zip(ours, theirs, strict=True)]
    pairs = [(a, b) for a, b in pairs if a and b]
    if not pairs:
        return {}
    found = stats.time_ratio([b for _, b in pairs], [a for a, _ in pairs])
    low, high = min(found.low, found.ratio / RUN_SPREAD), max(found.high, found.ratio * RUN_SPREAD)
    if len(pairs) < 2:
        low, high = found.ratio / RUN_SPREAD, found.ratio * RUN_SPREAD
    return {"ratio": found.ratio, "ratio_low": low, "ratio_high": high}


def _judge(lines: Sequence[dict[str, Any]], limits: Thresholds) -> None:
    """Fills in verdicts and regressions, corrected over all lines that were tested."""
    tested = [line for line in lines if line["p"] is not None]
    for line, p in zip(tested, stats.holm([line["p"] for line in tested]), strict=True):
        better = (line["difference"] > 0) == line["higher_is_better"]
        line["verdict"] = ("better" if better else "worse") if p <= LEVEL else "no difference shown"
        if line["verdict"] == "worse" and abs(line["difference"]) > limits.drop * line["size"]:
            line |= {"regressed": True, "why": f"score worse: {_difference_text(line)}"}
    for line in lines:
        if line["ratio"] is None:
            continue
        shown = "slower" if line["ratio_low"] > 1 else "faster" if line["ratio_high"] < 1 else None
        line["time_verdict"] = shown or "no difference shown"
        if line["time_verdict"] == "slower" and line["ratio"] > 1 + limits.slowdown:
            why = f"slower: {_ratio_text(line)}"
            line |= {"regressed": True, "why": "; ".join(filter(None, [line["why"], why]))}


def _by_seed(table: Results, positions: Sequence[int]) -> dict[int, list[int]]:
    """The scored results of each seed: several where other machines or versions made the cell too."""
    found: dict[int, list[int]] = {}
    for i in positions:
        if table.rows[i]["status"] == Status.OK and table.rows[i]["count"]:
            found.setdefault(table.rows[i]["seed"], []).append(i)
    return found


def _score(table: Results, positions: Sequence[int]) -> str:
    scored = [i for each in _by_seed(table, positions).values() for i in each]
    if not scored:
        return ", ".join(sorted({table.rows[i]["status"] for i in positions})) or ABSENT
    mean = sum(table.rows[i]["mean"] for i in scored) / len(scored)
    return f"{mean * 100:.2f} %" if table.rows[scored[0]]["unit"] == "share" else significant(mean, 4)


def _difference_text(line: Mapping[str, Any]) -> str:
    if line["difference"] is None:
        return ABSENT
    half = (line["high"] - line["low"]) / 2
    if line["unit"] == "share":
        return f"{line['difference'] * 100:+.2f} ± {half * 100:.2f} points"
    return f"{line['difference']:+.4g} ± {half:.2g}"


def _detectable_text(line: Mapping[str, Any]) -> str:
    if line["verdict"] != "no difference shown" or not np.isfinite(line["detectable"]):
        return ABSENT
    if line["unit"] == "share":
        return f"{line['detectable'] * 100:.2f} points"
    return significant(line["detectable"], 2)


def _ratio_text(line: Mapping[str, Any]) -> str:
    if line["ratio"] is None:
        return ABSENT
    return f"{line['ratio']:.2f} × ({line['ratio_low']:.2f}–{line['ratio_high']:.2f})"
