"""What a report is given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from metabench.records.row import Row, UnreadableFile
    from metabench.records.section import Section
    from metabench.records.summary import Summary


class ReportContent(Protocol):
    """What a report is given: results, their summaries over seeds, and the tables that are made of them.

    Every text in it comes from somebody's result file and is untrusted.
    """

    @property
    def rows(self) -> Sequence[Row]:
        """One flat row per result."""

    @property
    def summaries(self) -> Sequence[Summary]:
        """One summary per configuration and machine over its seeds, of scored results only."""

    @property
    def problems(self) -> Sequence[UnreadableFile]:
        """Files that were passed over, and why."""

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame."""

    def sections(self, names: Iterable[str] | None = None, sort: str | None = None) -> list[Section[Any]]:
        """Return tables: these, or for None those that were chosen for the report, in the chosen order.

        names: such as "scores" (`metabench.report.TABLES` lists them); a table that is asked for by its name
        may be empty. sort: a column's header or its figure's name, with a leading - for descending.
        """

    def of_suite(self, name: str, version: int) -> ReportContent:
        """Return the content made of one suite's results alone, with all of its tables."""
