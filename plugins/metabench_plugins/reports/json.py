"""The report as JSON, for other programs."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metabench import Report
from metabench.references import Reference
from metabench.table import Table


@dataclass(frozen=True, kw_only=True)
class Json(Report):
    """Every table as JSON with its notes, and every result as a record, in one file `report.json`."""

    name: ClassVar[str] = "json"

    def write(self, table: Table, folder: Path) -> list[Path]:
        """Writes report.json; what is missing or no finite number is null."""
        told = {
            "tables": [
                {"name": s.name, "title": s.title, "notes": list(s.shown()[2]), "rows": s.records}
                for s in table.sections()
            ],
            "results": table.rows,
            "passed_over": [{"file": p.file, "what": p.what} for p in table.problems],
        }
        path = folder / "report.json"
        path.write_text(json.dumps(_plain(told), indent=1) + "\n", encoding="utf-8")
        return [path]


def _plain(value: Any) -> Any:
    """The value in JSON's own types."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items() if k != "positions"}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Reference):
        return str(value)
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
