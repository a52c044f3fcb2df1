"""Runs one job on the machine of a cluster that it was sent to, and writes down how it ended.

    python -m metabench_plugins.executors._on_node JOB_FOLDER

The folder holds `order.json`; `ended.json` is written there: exit code, whether it was cut off, seconds.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import closing
from pathlib import Path

from metabench.records import Job, write_json
from metabench_plugins.executors.local import Local

ORDER, ENDED = "order.json", "ended.json"


def main(folder: Path) -> int:
    """Runs the job of this folder as the local executor does; returns 0 where it could be run."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the job is ended on the way
    order = json.loads((folder / ORDER).read_text(encoding="utf-8"))
    job = Job(order["id"], folder, tuple(order["argv"]), order["environment"], order["timeout"], {})
    with closing(Local(grace_seconds=order["grace_seconds"]).run([job])) as ends:  # type: ignore[type-var]  # a generator
        (outcome,) = ends
    write_json(
        folder / ENDED,
        {"exit_code": outcome.exit_code, "timed_out": outcome.timed_out, "seconds": outcome.seconds},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
