"""The report as JSON, for other programs."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metabench import Report, ReportContent
from metabench_plugins.reports.csv import LEFT_OUT


@dataclass(frozen=True, kw_only=True)
class Json(Report):
    """Every table as JSON with its notes, and every result as a record, in one file `report.json`."""

    name: ClassVar[str] = "json"

    def write(self, content: ReportContent, folder: Path) -> list[Path]:
        """Write report.json; what is missing or no finite number is null."""
        document = {
            "tables": [
                {
                    "name": table.name,
                    "title": table.title,
                    "notes": table.shown()[2],
                    "rows": table.records,
                }
                for table in content.sections()
            ],
            "results": content.rows,
            "passed_over": [{"file": p.file, "what": p.what} for p in content.problems],
        }
        path = folder / "report.json"
        path.write_text(json.dumps(_plain(document), indent=1) + "\n", encoding="utf-8")
        return [path]


def _plain(value: Any) -> Any:
    """Return the value in JSON's own types."""
    if isinstance(value, dict):
        return {
            str(name): _references(value) if name == "references" else _plain(member)
            for name, member in value.items()
            if name != LEFT_OUT
        }
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _references(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the published counterparts of a record, each with its source and whether the score agrees."""
    return [
        {
            "accuracy": reference.accuracy,
            "half_width": reference.half_width,
            "kind": reference.kind,
            "source": reference.source,
            "checked": reference.checked,
            "verdict": verdict,
        }
        for reference, verdict in zip(record["references"], record["verdicts"], strict=True)
    ]
