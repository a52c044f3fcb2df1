"""Reports with one fault each, and a sound one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from metabench import (
    Report,
    ReportContent,
    setting,
)


@dataclass(frozen=True, kw_only=True)
class FaultyReport(Report):
    """Names of algorithms in one file, escaped nowhere."""

    name: ClassVar[str] = "faulty"
    suffix: str = setting("html", "of the file")
    fault: str = setting("", "which")

    def write(self, content: ReportContent, folder: Path) -> list[Path]:
        names = [str(row["algorithm"]) for row in content.rows]
        if self.fault == "fails when empty" and not names:
            raise IndexError("no rows")
        if self.fault == "path of a name":
            for name in names:
                if "/" in name and "<" not in name and "|" not in name:
                    (folder / f"{name}.txt").parent.mkdir(exist_ok=True, parents=True)
                    (folder / f"{name}.txt").write_text("x")
        text = {
            "html": "<ul>" + "".join(f"<li title='{n}'>{n}</li>" for n in names) + "</ul>",
            "md": "| name |\n| --- |\n" + "".join(f"| {n} |\n" for n in names),
            "tex": "\n".join(names),
            "csv": "name\n" + "".join(f'"{n}"\n' for n in names),
            "json": '{"names": [NaN]}',
        }[self.suffix]
        path = folder / f"report.{self.suffix}"
        path.write_text(text)
        return [] if self.fault == "tells nothing" else [path]
