"""Stored results as a table: one row per result, one summary per cell over its seeds, and the report tables.

table = Table.read(["results/local"])
table.frame                 pandas, one row per result
table.summary()             one row per cell: seeds and tasks crossed, with interval and tier
print(render(table))        every table of the report, for a terminal
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metabench.errors import RequestError, did_you_mean
from metabench.records.axes import values_of
from metabench.records.result import Result
from metabench.results import cache as index
from metabench.results import rows
from metabench.results.cache import Problem
from metabench.results.rows import AXES, Row
from metabench.results.store import read_result
from metabench.settings import make

if TYPE_CHECKING:
    import pandas as pd

    from metabench.plugins import Registry
    from metabench.report.columns import Section


PIVOTS = tuple(axis for axis in AXES if axis not in ("seed", "status", "date"))
"""The axes that a summary over seeds still has."""


@dataclass
class Table:
    """Results as rows; every row is untrusted text and numbers from somebody's file.

    rows: one per result; scores: the per-task scores of each, in the same order; problems: what was
    passed over or looks wrong; price_per_hour: of one device, for the columns of money.
    """

    rows: list[Row]
    scores: list[NDArray[np.float64]]
    problems: list[Problem] = field(default_factory=list)
    price_per_hour: float | None = None
    _shown: list[Section] | None = field(default=None, init=False, repr=False)

    @classmethod
    def of(cls, results: Iterable[Result], files: Sequence[Path | str] | None = None) -> Table:
        """The table of these results; files: where each of them lies."""
        listed = list(results)
        where = [""] * len(listed) if files is None else [str(file) for file in files]
        made = [rows.row_of(result, file) for result, file in zip(listed, where, strict=True)]
        return cls([row for row, _ in made], [scores for _, scores in made])

    @classmethod
    def read(cls, paths: Iterable[Path | str], cache: Path | None = None) -> Table:
        """The table of all results in these files and folders; what is no result becomes a problem.

        Its rows are in the order of what they solve, how and where, numbers by their size.
        """
        found = index.read(paths, cache)
        order = sorted(range(len(found.rows)), key=lambda i: rows.order(found.rows[i]))
        return cls([found.rows[i] for i in order], [found.scores[i] for i in order], found.problems)

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

    def where(self, only: Sequence[str] = (), skip: Sequence[str] = ()) -> Table:
        """The rows that match every `axis=value,value` of `only` and none of `skip`.

        A value is an axis's own text, or the plain name of a component whose settings tell rows apart:
        `method=maml` matches `maml (steps=1)` too, where no row is called just that.

        Raises RequestError for an axis that does not exist, or a value that no row has.
        """
        wanted = [self._condition(text) for text in only]
        unwanted = [self._condition(text) for text in skip]
        return self._picked(
            i
            for i, row in enumerate(self.rows)
            if all(str(row[axis]) in values for axis, values in wanted)
            and not any(str(row[axis]) in values for axis, values in unwanted)
        )

    def suite(self, name: str, version: int) -> Table:
        """The rows of one suite, whatever characters its name holds."""
        return self._picked(
            i for i, row in enumerate(self.rows) if (row["suite"], row["version"]) == (name, version)
        )

    def _picked(self, positions: Iterable[int]) -> Table:
        kept = list(positions)
        return Table(
            [dict(self.rows[i]) for i in kept], [self.scores[i] for i in kept], list(self.problems),
            self.price_per_hour,
        )  # fmt: skip

    def _condition(self, text: str) -> tuple[str, set[str]]:
        axis, equals, values = text.partition("=")
        if not equals or axis not in AXES:
            raise RequestError(f"{text!r} is not axis=value; {did_you_mean(axis, AXES)}")
        there = {str(row[axis]) for row in self.rows}
        plain: dict[str, set[str]] = {}
        for row in self.rows:
            plain.setdefault(str(_plain_name(row, axis)), set()).add(str(row[axis]))
        asked: set[str] = set()
        for value in values_of(values, there):
            if value not in there and value not in plain:
                raise RequestError(f"no result has {axis} {value!r}; {did_you_mean(value, there)}")
            asked |= {value} if value in there else plain[value]
        return axis, asked

    def result(self, position: int) -> Result:
        """The whole result of a row, read from its file."""
        return read_result(Path(self.rows[position]["file"]))

    @cached_property
    def cells(self) -> list[dict[str, Any]]:
        """One record per cell and machine over its seeds, scored ones only."""
        from metabench.report.summary import summarize

        return summarize(self)

    def summary(self) -> pd.DataFrame:
        """One row per cell and machine: its seeds and tasks crossed, with interval, tier and times."""
        import pandas as pd

        return pd.DataFrame(self.cells)

    def sections(self) -> list[Section]:
        """The tables of a report: those that were chosen for it, or every one that has a line."""
        return self.chosen() if self._shown is None else list(self._shown)

    def showing(self, sections: Sequence[Section]) -> Table:
        """The same results, of which reports show these tables only."""
        shown = copy.copy(self)
        shown._shown = list(sections)
        return shown

    def chosen(self, names: Sequence[str] | None = None, sort: str | None = None) -> list[Section]:
        """These tables of the report (all that have a line for None), ordered by a column where they have it.

        sort: a column's header or the name of its figure, with a leading - for descending. Raises
        RequestError for a table that does not exist, or a column that none of them has.
        """
        from metabench.report.scores import SECTIONS

        made = {section.name: section for section in (make(self) for make in SECTIONS)}
        for name in names or ():
            if name not in made:
                raise RequestError(f"no table is called {name!r}; {did_you_mean(name, made)}")
        kept = [s for name, s in made.items() if (name in names if names is not None else bool(s))]
        return kept if sort is None else ordered(kept, sort)

    def pivot(self, lines: str, across: str) -> Section:
        """Scores with one axis down and one across; raises RequestError for an axis that does not exist."""
        from metabench.report.pivot import pivot

        for axis in (lines, across):
            if axis not in PIVOTS:
                raise RequestError(f"{axis!r} is not an axis to pivot by; {did_you_mean(axis, PIVOTS)}")
        return pivot(self, lines, across)

    def accuracy(self) -> Section:
        """Scores with intervals and tiers."""
        from metabench.report.scores import accuracy

        return accuracy(self)

    def wall_time(self) -> Section:
        """Where the time went."""
        from metabench.report.scores import wall_time

        return wall_time(self)

    def scaling(self) -> Section:
        """Speed-up over ranks, where accuracies agree."""
        from metabench.report.scaling import strong

        return strong(self)

    def largest(self) -> Section:
        """The largest task that fits into a stated memory."""
        from metabench.report.capacity import largest

        return largest(self)

    def weak_scaling(self) -> Section:
        """Throughput over ranks at the same number of tasks per rank."""
        from metabench.report.scaling import weak

        return weak(self)

    def devices(self) -> Section:
        """Speed-up by a change of device, where accuracies agree."""
        from metabench.report.scaling import devices

        return devices(self)

    def time_to_target(self) -> Section:
        """Seconds until validation reached the target that the suite states."""
        from metabench.report.scores import time_to_target

        return time_to_target(self)

    def cost(self) -> Section:
        """What a result takes: parameters, operations, memory, energy, money."""
        from metabench.report.cost import cost

        return cost(self)

    def failures(self) -> Section:
        """Every result that is not ok, with its reason and last words."""
        from metabench.report.scores import failures

        return failures(self)

    def _drop_copies(self) -> None:
        """Keeps one of several results of one cell on one machine, and says where they disagree."""
        seen: dict[tuple[str, str], int] = {}
        dropped = set()
        for i, row in enumerate(self.rows):
            key = (row["digest"], row["machine"])
            first = seen.setdefault(key, i)
            if first == i:
                continue
            other = self.rows[first]
            same = row["status"] == other["status"] and np.array_equal(self.scores[i], self.scores[first])
            newer, older = (i, first) if row["started"] > other["started"] else (first, i)
            dropped.add(older)
            seen[key] = newer
            if not same:
                what = f"disagrees with {self.rows[newer]['file']}, a later result of the same cell: left out"
                self.problems.append(Problem(str(self.rows[older]["file"]), what))
        self.rows = [row for i, row in enumerate(self.rows) if i not in dropped]
        self.scores = [one for i, one in enumerate(self.scores) if i not in dropped]


def ordered(sections: Sequence[Section], sort: str) -> list[Section]:
    """Sections sorted by a column (header or name of its figure, a leading - for descending).

    A section without that column stays as it is. Raises RequestError where none has it.
    """
    by = sort.removeprefix("-")
    columns = {name for section in sections for name in section.sortable()}
    if sections and by not in columns:
        raise RequestError(f"no table has the column {by!r}; {did_you_mean(by, columns)}")
    return [
        section.ordered(by, sort.startswith("-")) if by in section.sortable() else section
        for section in sections
    ]


def render(table: Table, sections: Sequence[Section] | None = None, lines: int = 100) -> str:
    """These tables (those of the report for None) as plain text, with what was passed over at the end.

    lines: the most that are shown of each table, 0 for all of them; how many are left out is stated.
    """
    from metabench.report.scores import plain
    from metabench.text import printable

    parts = [plain(one, "simple", lines) for one in (table.sections() if sections is None else sections)]
    if not parts:
        parts = ["no results"]
    if table.problems:
        listed = [f"  {printable(str(problem))}" for problem in table.problems]
        shown = listed[:lines] if lines else listed
        more = [f"  … and {len(listed) - len(shown)} more"] if len(listed) > len(shown) else []
        parts.append("\n".join(["Passed over:", *shown, *more]))
    return "\n\n".join(parts)


def write_reports(
    table: Table,
    folder: Path,
    formats: Sequence[str],
    registry: Registry,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Path]:
    """Writes these reports into `folder` and returns the files; settings: by name of the report.

    Raises UnknownComponent for a report that is not installed, before anything is written.
    """
    made = [make(registry.find("report", name).cls, (settings or {}).get(name)) for name in formats]
    folder.mkdir(parents=True, exist_ok=True)
    return [path for report in made for path in report.write(table, folder)]


def _plain_name(row: Row, axis: str) -> Any:
    """The value of an axis without the settings that tell rows apart."""
    if axis == "method":
        return row["label"] or row["algorithm"]
    return row[f"{axis}_name"] if axis in ("network", "dataset", "backend") else row[axis]


def _name(table_rows: Sequence[Row]) -> None:
    """Gives each row names that tell its components apart: `method`, `network`, `dataset`, `backend`.

    A component keeps its plain name; settings are added where two of that name differ in a suite.
    """
    for row in table_rows:
        for kind in ("network", "dataset", "backend"):
            row.setdefault(f"{kind}_name", row[kind])
        row["method"] = row["label"] or row["algorithm"]
    for kind in ("method", "network", "dataset", "backend"):
        plain, settings = ("method", "algorithm_settings") if kind == "method" else (
            f"{kind}_name", f"{kind}_settings")  # fmt: skip
        groups: dict[tuple[Any, ...], dict[str, None]] = {}
        for row in table_rows:
            groups.setdefault((row["suite"], row["version"], row[plain]), {})[row[settings]] = None
        told = {key: _differences(list(each)) for key, each in groups.items()}
        for row in table_rows:
            more = told[row["suite"], row["version"], row[plain]][row[settings]]
            row[kind] = f"{row[plain]} ({more})" if more else row[plain]


def _differences(settings: Sequence[str]) -> dict[str, str]:
    """For each of several settings (JSON), those that are not the same in all, as `rate=0.1, steps=5`."""
    if len(settings) == 1:
        return {settings[0]: ""}
    told = {one: json.loads(one) for one in settings}
    keys = sorted({key for one in told.values() for key in one})
    apart = [k for k in keys if len({json.dumps(one.get(k)) for one in told.values()}) > 1]
    # ranks and threads have their own columns
    shown = [k for k in apart if k not in ("ranks", "threads")]
    return {
        text: ", ".join(f"{k}={json.dumps(one[k])}" for k in shown if k in one) for text, one in told.items()
    }
