"""One cell in its own process: a job file in, exactly one result file out.

    python -m metabench.worker results/local/quick-v1/jobs/<cell id>/job.json

The exit status is 0 where a result was written, 1 where a rank failed.
"""

from __future__ import annotations

import time

STARTED, CLOCK = time.time(), time.monotonic()

import faulthandler  # noqa: E402 - the clock above starts before the imports
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from metabench.records.job import JobFolder  # noqa: E402
from metabench.worker.cell import Work  # noqa: E402
from metabench.worker.parent import end_with_parent, seconds_since_launch  # noqa: E402

IMPORT_SECONDS = time.monotonic() - CLOCK


def main(argv: list[str]) -> int:
    """Run the job in this file; return the exit status."""
    folder = JobFolder(Path(argv[0]).parent)
    job = folder.read_job()
    launch = seconds_since_launch(job.launched) - (time.monotonic() - CLOCK)
    end_with_parent()
    if "RANK" in os.environ and hasattr(faulthandler, "register"):  # absent on Windows
        # a rank that hangs prints its stack when torchrun ends it, after the others timed out
        faulthandler.register(signal.SIGTERM, chain=True)
    work = Work(job, folder, STARTED, {"start": max(0.0, launch), "import": IMPORT_SECONDS})
    try:
        return work.run()
    except Exception as error:
        work.fail(error)
        return 1


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # everything is written; taking torch's modules down one by one costs half a second
