"""Runs one job on the machine of a cluster that it was sent to, where its folder is visible."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from metabench.records import Job
from metabench_plugins.executors._running_job import RunningJob


class End(NamedTuple):
    """How a job ended, as an `Outcome` says it."""

    exit_code: int | None
    timed_out: bool
    seconds: float


def run_on_node(order: dict[str, Any], grace_seconds: float) -> End:
    """Run the job of this order under its supervisor, which ends it with this process.

    order: the fields of a `Job` but for its resources, the folder as text.
    """
    job = Job(**{**order, "folder": Path(order["folder"])}, resources={})
    with RunningJob(job, grace_seconds) as running:
        outcome = running.wait()
    assert outcome is not None  # without a limit it waits for the end
    return End(outcome.exit_code, outcome.timed_out, outcome.seconds)
