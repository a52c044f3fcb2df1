"""What a report is given: the results, their summaries over seeds, and every table made of them.

content = Content.of(Results.read(["results/local"]))
content.frame                     pandas, one row per result
content.summaries                 one per configuration and machine, over its seeds
content.sections()                every table that has a line
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from metabench.errors import RequestError, did_you_mean
from metabench.records.row import Row, UnreadableFile
from metabench.records.section import Section
from metabench.records.summary import Summary
from metabench.report.capacity import capacity
from metabench.report.cost import cost
from metabench.report.failures import failures
from metabench.report.pivot import pivot
from metabench.report.replication import replication
from metabench.report.scaling import devices, strong, weak
from metabench.report.scores import scores
from metabench.report.summary import Summaries
from metabench.report.times import time_to_target, wall_time
from metabench.report.tuning import tuning
from metabench.results.table import Results

if TYPE_CHECKING:
    import pandas as pd

TABLES: Mapping[str, Callable[[Summaries], Section[Any]]] = {
    "scores": scores,
    "replication": replication,
    "tuning": tuning,
    "wall-time": wall_time,
    "scaling": strong,
    "weak-scaling": weak,
    "devices": devices,
    "capacity": capacity,
    "time-to-target": time_to_target,
    "cost": cost,
    "failures": failures,
}
"""Every table of a report by its name, in the order in which reports show them."""


@dataclass(frozen=True)
class Content:
    """What a report is given; every text in it comes from somebody's file and is untrusted.

    shown: the tables that were chosen for reports, None for every table that has a line.
    """

    source: Summaries
    shown: Sequence[Section[Any]] | None = None

    @classmethod
    def of(cls, results: Results, price_per_hour: float | None = None) -> Content:
        """Return the content made of these results; price_per_hour: of one device, for columns of money."""
        return cls(Summaries(results, price_per_hour))

    @property
    def results(self) -> Results:
        """The results with their per-task scores."""
        return self.source.results

    @property
    def rows(self) -> list[Row]:
        """One flat row per result."""
        return self.source.results.rows

    @property
    def summaries(self) -> list[Summary]:
        """One summary per configuration and machine over its seeds, of scored results only."""
        return self.source.summaries

    @property
    def ranked(self) -> Sequence[Summary]:
        """The summaries that belong in a ranking: all but series over hardware or sizes, if there are any."""
        return self.source.ranked

    @property
    def problems(self) -> list[UnreadableFile]:
        """Files that were passed over, and why."""
        return self.source.results.problems

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame."""
        return self.source.results.frame

    def sections(self, names: Iterable[str] | None = None, sort: str | None = None) -> list[Section[Any]]:
        """Return tables of the report.

        names: of TABLES; None for the tables that were chosen for reports, or all that have a line. sort: a
        column's header or the name of its figure, with a leading - for descending; a table without it stays
        as it is. Raises RequestError for a table that does not exist, or a column that none of them has.
        """
        if names is not None:
            chosen = _checked(names)
            tables = [self._table(name) for name in TABLES if name in chosen]
        elif self.shown is not None:
            tables = list(self.shown)
        else:
            tables = [table for table in map(self._table, TABLES) if table]
        return tables if sort is None else ordered(tables, sort)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: every table that was chosen, or that has a line."""
        return "\n".join(section.html() for section in self.sections())

    def pivot(self, down: str, across: str) -> Section[Any]:
        """Return scores with one axis down and one across; raises RequestError for an unknown axis."""
        return pivot(self.source, down, across)

    def of_suite(self, name: str, version: int) -> Content:
        """Return the content made of one suite's results alone, with all of its tables."""
        return Content.of(self.results.suite(name, version), self.source.price_per_hour)

    def showing(self, sections: Sequence[Section[Any]]) -> Content:
        """Return the same content, of which reports show these tables only."""
        return replace(self, shown=list(sections))

    @cached_property
    def _tables(self) -> dict[str, Section[Any]]:
        return {}

    def _table(self, name: str) -> Section[Any]:
        if name not in self._tables:
            self._tables[name] = TABLES[name](self.source)
        return self._tables[name]


def ordered(sections: Sequence[Section[Any]], sort: str) -> list[Section[Any]]:
    """Return the sections sorted by a column (header or name of its figure, a leading - for descending).

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


def _checked(names: Iterable[str]) -> set[str]:
    names = set(names)
    for name in sorted(names - TABLES.keys()):
        raise RequestError(f"no table is called {name!r}; {did_you_mean(name, TABLES)}")
    return names
