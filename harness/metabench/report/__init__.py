"""From results to summaries over seeds, to tables, to text; the names here are for authors of reports."""

from metabench.records.section import Column, Section
from metabench.report.columns import (
    AXIS_COLUMNS,
    COUNT_COLUMNS,
    GIB,
    METHOD_COLUMNS,
    MIB,
    SPEED,
    mean_and_deviation,
    number,
    protocol,
    score,
    speed,
    standing_notes,
    task,
    text,
)
from metabench.report.content import TABLES, Content
from metabench.report.further import further_figures, further_titles
from metabench.report.labels import flags, labels, reference_text
from metabench.report.output import plain, render, write_reports
from metabench.report.pivot import MARKS, Grid, GridRow, grid, marked, marks
from metabench.report.scores import best_first
from metabench.report.summary import Summaries, ranked
from metabench.report.times import SEVERAL_MACHINES
from metabench.report.verdicts import verdict
from metabench.text import ABSENT, markdown_text, one_line, printable, score_text

__all__ = [
    "ABSENT",
    "AXIS_COLUMNS",
    "COUNT_COLUMNS",
    "GIB",
    "MARKS",
    "METHOD_COLUMNS",
    "MIB",
    "SEVERAL_MACHINES",
    "SPEED",
    "TABLES",
    "Column",
    "Content",
    "Grid",
    "GridRow",
    "Section",
    "Summaries",
    "best_first",
    "flags",
    "further_figures",
    "further_titles",
    "grid",
    "labels",
    "markdown_text",
    "marked",
    "marks",
    "mean_and_deviation",
    "number",
    "one_line",
    "plain",
    "printable",
    "protocol",
    "ranked",
    "reference_text",
    "render",
    "score",
    "score_text",
    "speed",
    "standing_notes",
    "task",
    "text",
    "verdict",
    "write_reports",
]
