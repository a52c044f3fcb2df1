"""Stored results as rows with their per-task scores.

results = Results.read(["results/local"])
results.frame                       pandas, one row per result
results.where(["algorithm=maml"])   the results of one algorithm
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from metabench import stats
from metabench.records.axes import AXES, matching
from metabench.records.files import read_result
from metabench.records.result import Result
from metabench.records.row import Row, UnreadableFile
from metabench.records.task_classes import TaskClasses
from metabench.results import cache as index
from metabench.results import rows

if TYPE_CHECKING:
    import pandas as pd


NAMES: Sequence[
    tuple[
        Literal["method", "network", "dataset", "backend"],
        Literal["method_name", "network_name", "dataset_name", "backend_name"],
        Literal["algorithm_settings", "network_settings", "dataset_settings", "backend_settings"],
    ]
] = (
    ("method", "method_name", "algorithm_settings"),
    ("network", "network_name", "network_settings"),
    ("dataset", "dataset_name", "dataset_settings"),
    ("backend", "backend_name", "backend_settings"),
)
"""Fields of a row: the name of a component that is shown, its plain name, and its settings."""


@dataclass
class Results:
    """Results as rows; every text of a row comes from somebody's file and is untrusted.

    rows: one per result; scores: the per-task scores of each, in the same order; problems: files that were
    passed over; further: of each, a line per further metric of its row, [metrics, tasks], in their order
    (empty: no row has any); classes: what the test tasks consist of, by the rows' key.
    """

    rows: list[Row]
    scores: list[NDArray[np.float64]]
    problems: list[UnreadableFile] = field(default_factory=list)
    further: list[NDArray[np.float64]] = field(default_factory=list)
    classes: Mapping[str, TaskClasses] = field(default_factory=dict)

    @classmethod
    def of(cls, results: Iterable[Result], files: Sequence[Path | str] | None = None) -> Results:
        """Return these results as rows; files: where each of them lies."""
        listed = list(results)
        where = [""] * len(listed) if files is None else [str(file) for file in files]
        pairs = [rows.row_of(result, file) for result, file in zip(listed, where, strict=True)]
        scores = [scores for _, scores in pairs]
        recorded = (result.scores.classes for result in listed if result.scores)
        classes = {of_tasks.key: of_tasks for of_tasks in recorded if of_tasks}
        return cls(
            [row for row, _ in pairs], [s[0] for s in scores], further=[s[1:] for s in scores],
            classes=classes,
        )  # fmt: skip

    @classmethod
    def read(cls, paths: Iterable[Path | str], cache: Path | None = None) -> Results:
        """Return all results in these files and folders; a file that holds none becomes a problem.

        Rows are ordered by what they solve, how and where, numbers by their size.
        """
        stored = index.read(paths, cache)
        order = sorted(range(len(stored.rows)), key=lambda i: rows.order(stored.rows[i]))
        scores = [stored.scores[i] for i in order]
        ordered = [stored.rows[i] for i in order]
        first, further = [s[0] for s in scores], [s[1:] for s in scores]
        return cls(ordered, first, stored.problems, further, stored.classes)

    def __post_init__(self) -> None:
        _name(self.rows)
        self._drop_copies()

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per result: the axes of its cell, its outcome and its figures."""
        import pandas as pd  # takes a third of a second, which a table on the terminal does not wait for

        return pd.DataFrame(self.rows, columns=None if self.rows else [*AXES, "mean", "half_width"])

    def where(self, only: Sequence[str] = (), skip: Sequence[str] = ()) -> Results:
        """Return the rows that match every `axis=value,value` of `only` and none of `skip`.

        A value is an axis's own text, or the plain name of a component whose settings tell rows apart:
        `method=maml` matches `maml (steps=1)` too, where no row is called just that.

        Raises RequestError for an axis that does not exist, or a value that no row has.
        """
        if not only and not skip:
            return self._picked(range(len(self.rows)))
        return self._picked(
            matching(len(self.rows), AXES, self._axis, only, skip, "result", plain=self._plain_axis)
        )

    def suite(self, name: str, version: int) -> Results:
        """Return the rows of one suite, whatever characters its name holds."""
        return self._picked(
            i for i, row in enumerate(self.rows) if (row["suite"], row["version"]) == (name, version)
        )

    def score_matrix(self, positions: Sequence[int]) -> NDArray[np.float64] | None:
        """Return the scores [seeds, tasks] of these rows, None where their tasks are not the same ones."""
        first = self.rows[positions[0]]
        same = all(
            self.rows[i]["manifest"] == first["manifest"] and self.rows[i]["count"] == first["count"]
            for i in positions
        )
        return np.stack([self.scores[i] for i in positions]) if same else None

    def redraw(self, positions: Sequence[int]) -> stats.Redraw | None:
        """Return what redraws the classes of these rows' tasks; None where that is not known.

        Results that recorded them speak for others of the same tasks; None too where two disagree.
        """
        tasks = {(self.rows[i]["manifest"], self.rows[i]["count"]) for i in positions}
        return self._redraw(*tasks.pop()) if len(tasks) == 1 else None

    def _redraw(self, manifest: str | None, tasks: int) -> stats.Redraw | None:
        if (manifest, tasks) not in self._redraws:
            keys = self._keys_of_manifest.get(manifest, set()) & self.classes.keys()
            known = self.classes[keys.pop()] if len(keys) == 1 else None
            self._redraws[manifest, tasks] = _redraw_of(known, tasks) if known else None
        return self._redraws[manifest, tasks]

    @cached_property
    def _redraws(self) -> dict[tuple[str | None, int], stats.Redraw | None]:
        return {}

    @cached_property
    def _keys_of_manifest(self) -> dict[str | None, set[str]]:
        """The keys of the classes that results recorded, by the digest of their tasks."""
        keys: dict[str | None, set[str]] = {}
        for row in self.rows:
            if row["classes"]:
                keys.setdefault(row["manifest"], set()).add(row["classes"])
        return keys

    def score_equally(self, first: Sequence[int], second: Sequence[int]) -> bool | None:
        """Return whether the rows at two groups of positions score equally; None where their tasks differ."""
        a, b = self.score_matrix(first), self.score_matrix(second)
        here, there = self.rows[first[0]], self.rows[second[0]]
        if a is None or b is None or here["manifest"] != there["manifest"] or a.shape[1] != b.shape[1]:
            return None
        return stats.equal_scores(a, b, share=here["unit"] == "share")

    def further_matrix(self, title: str, positions: Sequence[int]) -> NDArray[np.float64] | None:
        """Return the scores [seeds, tasks] of a further metric, None where the tasks are not the same ones.

        Every row must have the metric. Of a pooled metric they are the jackknife's pseudo-values.
        """
        if self.score_matrix(positions) is None:
            return None
        return np.stack([self.further[i][list(self.rows[i]["further"]).index(title)] for i in positions])

    def result(self, position: int) -> Result:
        """Return the whole result of a row, read from its file."""
        return read_result(Path(self.rows[position]["file"]))

    def _picked(self, positions: Iterable[int]) -> Results:
        kept = list(positions)
        return Results(
            [self.rows[i].copy() for i in kept], [self.scores[i] for i in kept], list(self.problems),
            [self.further[i] for i in kept] if self.further else [], self.classes,
        )  # fmt: skip

    def _axis(self, axis: str) -> list[str]:
        return [str(_field(row, axis)) for row in self.rows]

    def _plain_axis(self, axis: str) -> list[str]:
        """Return the values of an axis without the settings that tell rows apart."""
        plain = next((plain for shown, plain, _ in NAMES if shown == axis), axis)
        return [str(_field(row, plain)) for row in self.rows]

    def _drop_copies(self) -> None:
        """Keep one of several results of one cell on one machine, and state where they disagree."""
        kept: dict[tuple[str, str], int] = {}
        dropped = set()
        for i, row in enumerate(self.rows):
            key = (row["digest"], row["machine"])
            other = kept.setdefault(key, i)
            if other == i:
                continue
            newer, older = (i, other) if row["started"] > self.rows[other]["started"] else (other, i)
            dropped.add(older)
            kept[key] = newer
            if not self._same(i, other):
                what = f"disagrees with {self.rows[newer]['file']}, a later result of the same cell: left out"
                self.problems.append(UnreadableFile(str(self.rows[older]["file"]), what))
        self.rows = [row for i, row in enumerate(self.rows) if i not in dropped]
        self.scores = [scores for i, scores in enumerate(self.scores) if i not in dropped]
        self.further = [further for i, further in enumerate(self.further) if i not in dropped]

    def _same(self, first: int, second: int) -> bool:
        same_status = self.rows[first]["status"] == self.rows[second]["status"]
        return same_status and np.array_equal(self.scores[first], self.scores[second])


def _redraw_of(classes: TaskClasses, tasks: int) -> stats.Redraw | None:
    """Return what redraws the classes of so many tasks; None where the record is not of these tasks."""
    try:
        units = classes.tasks(tasks)
        groups = classes.groups_of_units(1 + max(map(max, units)))
    except ValueError:  # a foreign file may hold anything
        return None
    return stats.Redraw.of(units, groups)


def _field(row: Row, name: str) -> object:
    """Return a field of a row by a name that is known only when the program runs."""
    fields: Mapping[str, object] = row
    return fields[name]


def _name(table_rows: Sequence[Row]) -> None:
    """Give each row names that tell its components apart: `method`, `network`, `dataset`, `backend`.

    A component keeps its plain name; settings are added where two of that name differ in a suite.
    """
    for shown, plain, settings in NAMES:
        variants: dict[tuple[str, int, str], dict[str, None]] = {}
        for row in table_rows:
            variants.setdefault((row["suite"], row["version"], row[plain]), {})[row[settings]] = None
        texts = {key: _differences(list(different)) for key, different in variants.items()}
        for row in table_rows:
            more = texts[row["suite"], row["version"], row[plain]][row[settings]]
            row[shown] = f"{row[plain]} ({more})" if more else row[plain]


def _differences(variants: Sequence[str]) -> Mapping[str, str]:
    """Return for each of several settings (JSON) those not the same in all, as `rate=0.1, steps=5`."""
    if len(variants) == 1:
        return {variants[0]: ""}
    settings = {text: json.loads(text) for text in variants}
    keys = sorted({key for values in settings.values() for key in values})
    apart = [key for key in keys if len({json.dumps(v.get(key)) for v in settings.values()}) > 1]
    # ranks and threads have their own columns
    shown = [key for key in apart if key not in ("ranks", "threads")]
    return {
        text: ", ".join(f"{key}={json.dumps(values[key])}" for key in shown if key in values)
        for text, values in settings.items()
    }
