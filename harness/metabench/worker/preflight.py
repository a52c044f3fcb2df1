"""Starts a job's command on the machine that it was sent to, unless that machine lacks the hardware.

    python -m metabench.worker.preflight results/local/quick-v1/jobs/<cell id>/job.json

Without the hardware it writes a result with the reason, and starts nothing. Only a backend may import torch.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from metabench.contracts import Backend
from metabench.device import host
from metabench.records.cell import Cell, Spec, Status
from metabench.records.result import Result
from metabench.results.store import write_json
from metabench.settings import make


def main(job_file: Path) -> int:
    """Become the job's command; return 1 where this machine lacks what the cell's backend needs."""
    job = json.loads(job_file.read_text(encoding="utf-8"))
    cell = Cell.from_json(job["cell"])
    backend: Backend = make_component(job, "backend", cell.backend)
    reason = backend.available()
    if reason is None:
        os.execv(job["argv"][0], job["argv"])
    result = Result(
        cell, Status.SKIPPED, f"backend {backend.name!r}: {reason}", command=job["command"],
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        environment={**job["provenance"], **host.host()},
    )  # fmt: skip
    write_json(job_file.parent / "failed-0.json", {**result.to_json(), "rank": 0, "time": time.time()})
    return 1


def make_component(job: Mapping[str, Any], kind: str, spec: Spec) -> Any:
    """Return the job's component of this kind, without importing any other plugin."""
    module, _, name = job["components"][kind].partition(":")
    cls: Any = reduce(getattr, name.split("."), import_module(module))
    return make(cls, spec.settings)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
