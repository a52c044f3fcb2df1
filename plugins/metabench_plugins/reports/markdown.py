"""The report as Markdown, for a pull request or a README."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from metabench import Report
from metabench.report.scores import plain
from metabench.results.table import Table
from metabench.text import markdown_text


@dataclass(frozen=True, kw_only=True)
class Markdown(Report):
    """Every table as Markdown (GitHub's tables), in one file `report.md`."""

    name: ClassVar[str] = "markdown"

    def write(self, table: Table, folder: Path) -> list[Path]:
        """Writes report.md."""
        parts = ["# Results", *(plain(section, "github") for section in table.sections())]
        if table.problems:
            parts.append("## Passed over")
            parts.append("\n".join(f"- {markdown_text(str(problem))}" for problem in table.problems))
        path = folder / "report.md"
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        return [path]
