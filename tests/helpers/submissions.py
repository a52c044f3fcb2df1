"""What the tests of verification and publishing share: honest results, and hands that change them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from helpers.results import made_cell, made_result
from metabench import Result
from metabench.cli import metabench
from metabench.publishing.checks import Finding, verify
from metabench.publishing.completeness import Standard
from metabench.records import Cell, digest_of


def honest(seeds: Sequence[int] = (0, 1, 2), methods: Sequence[str] = ("maml", "protonet")) -> list[Result]:
    return [made_result(made_cell(m, s), 0.7) for m in methods for s in seeds]


def edited(path: Path, change: Callable[[dict[str, Any]], None], seal: bool = False) -> None:
    """Changes a stored file as a person with an editor would; seal: and forges the seal."""
    told = json.loads(path.read_text())
    change(told)
    if seal:
        told["seal"] = digest_of({k: v for k, v in told.items() if k != "seal"})
    path.write_text(json.dumps(told))


def made_standard(*more: Cell) -> dict[str, Standard]:
    cells = [result.cell for result in honest()]
    digest = str(honest()[0].environment["suite_digest"])
    return {"made-v1": Standard([*cells, *more], digest)}


def run(command: str, *arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(metabench, [command, *arguments], standalone_mode=False)
    if found.exception is not None:
        raise found.exception
    return int(found.return_value), found.output


def errors(path: Path) -> list[Finding]:
    return verify([path]).errors
