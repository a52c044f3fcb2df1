"""One cell in its own process: a job file in, exactly one result file out.

    python -m metabench.worker results/local/quick-v1/jobs/<cell id>/job.json

The exit status is 0 where a result was written, 1 where a rank failed.
"""

from __future__ import annotations

import time

STARTED = time.time()

import faulthandler  # noqa: E402 - the clock above starts before the imports
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
from pathlib import Path  # noqa: E402

import psutil  # noqa: E402

from metabench.records.job import JobFolder  # noqa: E402
from metabench.worker.cell import Work  # noqa: E402

IMPORTED = time.time()


def main(argv: list[str]) -> int:
    """Run the job in this file; return the exit status."""
    folder = JobFolder(Path(argv[0]).parent)
    job = folder.read_job()
    _end_with_parent()
    if "RANK" in os.environ and hasattr(faulthandler, "register"):  # absent on Windows
        # a rank that hangs prints its stack when torchrun ends it, after the others timed out
        faulthandler.register(signal.SIGTERM, chain=True)
    work = Work(job, folder, STARTED, IMPORTED)
    try:
        return work.run()
    except Exception as error:
        work.fail(error)
        return 1


def _end_with_parent() -> None:
    """End this process when its launcher or the runner is gone, so that no orphan keeps the cores busy.

    The launcher is the parent process (torchrun, or the runner itself); METABENCH_PARENT names the runner as
    "pid:creation time", and a batch system leaves it unset.
    """
    launcher = os.getppid()
    runner = os.environ.get("METABENCH_PARENT")
    pid, _, created = (runner or f"{launcher}:").partition(":")

    def watch() -> None:
        while True:
            time.sleep(0.5)
            if os.getppid() != launcher:
                os._exit(1)
            if runner and not _alive(int(pid), float(created)):
                if launcher != int(pid):
                    os.kill(launcher, signal.SIGKILL)
                os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def _alive(pid: int, created: float) -> bool:
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # everything is written; taking torch's modules down one by one costs half a second
