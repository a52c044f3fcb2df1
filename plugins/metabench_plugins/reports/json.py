"""The report as JSON, for other programs."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metabench import Report, ReportContent
from metabench.report import verdict


@dataclass(frozen=True, kw_only=True)
class Json(Report):
    """Every table as JSON with its notes, and every result as a record, in one file `report.json`."""

    name: ClassVar[str] = "json"

    def write(self, content: ReportContent, folder: Path) -> list[Path]:
        """Writes report.json; what is missing or no finite number is null."""
        told = {
            "tables": [
                {"name": s.name, "title": s.title, "notes": list(s.shown()[2]), "rows": s.records}
                for s in content.sections()
            ],
            "results": content.rows,
            "passed_over": [{"file": p.file, "what": p.what} for p in content.problems],
        }
        path = folder / "report.json"
        path.write_text(json.dumps(_plain(told), indent=1) + "\n", encoding="utf-8")
        return [path]


def _plain(value: Any) -> Any:
    """The value in JSON's own types."""
    if isinstance(value, dict):
        return {
            str(k): _references(value) if k == "references" else _plain(v)
            for k, v in value.items()
            if k != "positions"
        }
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _references(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The published counterparts of a record, each with its source and whether the score agrees."""
    return [
        {"accuracy": one.accuracy, "half_width": one.half_width, "kind": one.kind, "source": one.source,
         "verdict": verdict(one, record["mean"])}
        for one in record["references"]
    ]  # fmt: skip
