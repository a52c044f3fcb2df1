"""What a report is given, made from results of a test."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from metabench import Result
from metabench.records.section import Section
from metabench.records.summary import Summary
from metabench.report.content import Content
from metabench.report.output import render
from metabench.results.table import Results


def content_of(results: Iterable[Result], price_per_hour: float | None = None) -> Content:
    """The content of a report of these results."""
    return Content.of(Results.of(results), price_per_hour)


def content_in(paths: Iterable[Path], cache: Path) -> Content:
    """The content of a report of the results in these files and folders."""
    return Content.of(Results.read(paths, cache))


def table_of(source: Content | Iterable[Result], name: str) -> Section[Any]:
    """One table of a report, empty or not."""
    content = source if isinstance(source, Content) else content_of(source)
    (section,) = content.sections([name])
    return section


def shown(content: Content, lines: int = 100) -> str:
    """The report as a terminal shows it."""
    return render(content.sections(), content.problems, lines)


def summary_of(content: Content, method: str) -> Summary:
    """The summary of the only configuration of a method."""
    (summary,) = [summary for summary in content.summaries if summary["method"] == method]
    return summary
