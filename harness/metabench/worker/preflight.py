"""Starts a job's command on the machine that it was sent to, unless that machine lacks the hardware.

    python -m metabench.worker.preflight results/local/quick-v1/jobs/<cell id>/job.json

Without the hardware it writes a result with the reason, and starts nothing. Only a backend may import torch.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from metabench.contracts import CONTRACT_VERSION, Backend
from metabench.device import host
from metabench.records.carried import received
from metabench.records.cell import Spec, Status
from metabench.records.job import JobFile, JobFolder
from metabench.records.result import Result
from metabench.settings import make


def main(job_file: Path) -> int:
    """Become the job's command; return 1 where this machine lacks what the cell's backend needs."""
    folder = JobFolder(job_file.parent)
    job = folder.read_job()
    backend: Backend = make_component(job, "backend", job.cell.backend)
    reason = backend.available()
    if reason is None:
        os.execv(job.argv[0], job.argv)
    result = Result(
        job.cell, Status.SKIPPED, f"backend {backend.name!r}: {reason}", command=job.command,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        environment={**job.provenance, **host.host()}, contract=CONTRACT_VERSION,
    )  # fmt: skip
    folder.write_failure(0, result)
    return 1


def make_component(job: JobFile, kind: str, spec: Spec) -> Any:
    """Return the job's component of this kind, without importing any other plugin."""
    if kind in job.carried:
        return make(received(job.carried[kind], job.search), spec.settings)
    module, _, name = job.components[kind].partition(":")
    cls: Any = reduce(getattr, name.split("."), import_module(module))
    return make(cls, spec.settings)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
