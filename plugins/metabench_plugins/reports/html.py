"""The report as one HTML page without scripts."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import ClassVar

from metabench import Report, ReportContent
from metabench.report import printable

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>metabench report</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #8886; text-align: left; white-space: nowrap; }
td { font-variant-numeric: tabular-nums; }
p { max-width: 60rem; margin: .3rem 0; }
div { overflow-x: auto; }
</style>
<h1>Results</h1>
"""


@dataclass(frozen=True, kw_only=True)
class Html(Report):
    """Every table in one page, `report.html`, that needs no network and runs no script."""

    name: ClassVar[str] = "html"

    def write(self, content: ReportContent, folder: Path) -> list[Path]:
        """Write report.html."""
        parts = [HEAD, *(section.html() for section in content.sections())]
        if content.problems:
            listed = "".join(f"<li>{escape(printable(str(problem)))}</li>" for problem in content.problems)
            parts.append(f"<h2>Passed over</h2>\n<ul>{listed}</ul>")
        path = folder / "report.html"
        path.write_text("\n".join(parts) + "\n", encoding="utf-8")
        return [path]
