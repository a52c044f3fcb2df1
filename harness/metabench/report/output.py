"""Tables as text for a terminal or a Markdown page, and reports written as files."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tabulate import tabulate

from metabench.plugin_calls import plugin_call
from metabench.records.cell import Spec
from metabench.records.row import UnreadableFile
from metabench.records.section import Section
from metabench.report.content import Content
from metabench.report.destination import write_into
from metabench.text import markdown_text, printable

if TYPE_CHECKING:
    from metabench.plugins import Registry

WIDTH = 110  # characters of a line of notes on a terminal


def render(
    sections: Sequence[Section[Any]], problems: Sequence[UnreadableFile] = (), lines: int = 100
) -> str:
    """Return the tables as plain text, with the files that were passed over at the end.

    lines: the most that are shown of each table, 0 for all of them; how many are left out is stated.
    """
    parts = [plain(section, "simple", lines) for section in sections] or ["no results"]
    if problems:
        listed = [f"  {printable(str(problem))}" for problem in problems]
        shown = listed[:lines] if lines else listed
        more = [f"  … and {len(listed) - len(shown)} more"] if len(listed) > len(shown) else []
        parts.append("\n".join(["Passed over:", *shown, *more]))
    return "\n\n".join(parts)


def plain(section: Section[Any], style: Literal["simple", "github"], most: int = 0) -> str:
    """Return a table as text: `simple` for a terminal, `github` for Markdown; most: lines, 0 for all."""
    left_out = max(len(section.records) - most, 0) if most else 0
    if left_out:
        section = replace(section, records=section.records[:most])
    columns, lines, notes = section.shown()
    if left_out:
        notes.insert(0, f"{left_out} more lines: narrow them with --only, or see all with --lines 0.")
    headers = [column.header for column in columns]
    if style == "github":
        headers = [markdown_text(header) for header in headers]
        lines = [
            [f"~~{markdown_text(text)}~~" if struck else markdown_text(text) for text in line]
            for line, struck in zip(lines, section.struck(), strict=False)
        ]
        notes = [markdown_text(note) for note in notes]
    align = ["right" if column.right else "left" for column in columns]
    body = tabulate(lines, headers, tablefmt=style, disable_numparse=True, colalign=align if lines else None)
    if style == "github":
        return "\n\n".join([f"## {section.title}", body, *notes])
    filled = [
        textwrap.fill(note, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
        for note in notes
    ]
    return printable("\n".join([section.title, "", body, *filled]))


def write_reports(
    content: Content,
    folder: Path,
    formats: Sequence[str],
    registry: Registry,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    ours: bool = False,
) -> list[Path]:
    """Write these reports into `folder` and return the files.

    settings: by name of the report; ours: nobody else writes to the folder. Raises UnknownComponent for a
    report that is not installed, and RequestError where a file would be replaced that metabench did not
    write; then nothing is written.
    """
    reports = [registry.make("report", Spec(name, (settings or {}).get(name, {}))) for name in formats]

    def write(part: Path) -> list[Path]:
        paths: list[Path] = []
        for report in reports:
            with plugin_call(f"report {report.name!r}", OSError):
                paths += report.write(content, part)
        return paths

    return write_into(folder, write, ours=ours)
