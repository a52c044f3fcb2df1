"""The report as Markdown, for a pull request or a README."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from metabench import Report, ReportContent
from metabench.report import markdown_text, plain


@dataclass(frozen=True, kw_only=True)
class Markdown(Report):
    """Every table as Markdown (GitHub's tables), in one file `report.md`."""

    name: ClassVar[str] = "markdown"

    def write(self, content: ReportContent, folder: Path) -> list[Path]:
        """Write report.md."""
        parts = ["# Results", *(plain(section, "github") for section in content.sections())]
        if content.problems:
            parts.append("## Passed over")
            parts.append("\n".join(f"- {markdown_text(str(problem))}" for problem in content.problems))
        path = folder / "report.md"
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        return [path]
