"""Cells whose worker is ended while it runs, and started again until it is through."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from metabench.plugins import Registry, load
from metabench.records import Cell
from metabench.records.job import JobFolder
from metabench.records.result import Result
from metabench.results.store import Store
from metabench.runner.jobs import Jobs
from metabench.runner.keeping import Keeping
from metabench.runner.worker_files import ProgressReader, read_worker_result
from metabench.suite.suite import read

SUITE = """
name = "cut"
version = 1

[defaults]
network = {{name = "conv4", width = 8}}
dataset = "glyphs"
test = {{ways = 3, shots = 1, queries = 3}}
budget = {{steps = {steps}, tasks = 4, validate_every = {every}, validation_tasks = 6}}
evaluation = {{tasks = {tasks}, batch = 4}}
backend = {backend}

[[cells]]
[cells.sweep]
algorithm = [{algorithms}]
"""
SETTINGS = {"simpleshot": '{name = "simpleshot", micro = 2}'}  # several micro-batches, for several ranks
LIMIT_SECONDS = 120


def cells(
    folder: Path, *algorithms: str, ranks: int = 1, steps: int = 40, every: int = 10, tasks: int = 40
) -> dict[str, Cell]:
    """A small cell of each algorithm, by its name."""
    kind = '"cpu"' if ranks == 1 else f'"cpu-ranks", ranks = {ranks}'
    backend = f"{{name = {kind}, threads = 1}}"
    names = ", ".join(SETTINGS.get(name, f'"{name}"') for name in algorithms)
    path = folder / "cut.toml"
    path.write_text(SUITE.format(steps=steps, every=every, tasks=tasks, backend=backend, algorithms=names))
    return {cell.algorithm.name: cell for cell in read(load(), str(path)).cells}


class Worker:
    """The worker of one cell as the runner starts it; its job's folder is made anew at each start."""

    def __init__(self, cell: Cell, folder: Path, checkpoint_seconds: float = 0.0) -> None:
        self.cell, self.store = cell, Store(folder)
        self.keeping = Keeping(True, checkpoint_seconds)
        self.registry: Registry = load()

    @property
    def checkpoint(self) -> Path:
        """The cell's checkpoint."""
        return self.store.checkpoint(self.cell)

    @property
    def job(self) -> JobFolder:
        """The folder of the last job."""
        return self.store.job_folder(self.cell)

    def start(self) -> psutil.Popen:
        """Start the worker's command."""
        jobs = Jobs(self.registry, self.store, None, {"git": "test"}, keeping=self.keeping)
        job = next(iter(jobs.prepare([self.cell])))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **job.environment}
        with job.log.open("wb") as log:
            return psutil.Popen(
                job.argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )  # fmt: skip

    def run(self) -> Result:
        """Run the worker to its end; return its result."""
        process = self.start()
        assert process.wait(LIMIT_SECONDS) == 0, self.job.log.read_text()
        result = read_worker_result(self.job, self.cell)
        assert result is not None
        return result

    def cut(self, phase: str, delay: float, by: signal.Signals = signal.SIGKILL) -> bool:
        """Start the worker and end it `delay` seconds after its first event of this kind.

        Returns whether it was still running; it is through where such an event never comes.
        """
        process, progress = self.start(), ProgressReader(self.job)
        wait_until(lambda: _ended(process) or any(event.kind == phase for event in progress.read()))
        with suppress(psutil.TimeoutExpired):
            process.wait(delay)
            return False
        end(process, by)
        return True


def _ended(process: psutil.Popen) -> bool:
    return process.poll() is not None


def end(process: psutil.Process, by: signal.Signals, patience: float = 20.0) -> None:
    """Send the signal to a process and all that it started, and wait until they are gone."""
    family = [process]
    with suppress(psutil.NoSuchProcess):
        family += process.children(recursive=True)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.send_signal(by)
    _, alive = psutil.wait_procs(family, patience)
    assert not alive, alive


def wait_until(holds: Callable[[], bool], seconds: float = LIMIT_SECONDS) -> None:
    """Wait until this holds."""
    stop = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < stop, "it took too long"
        time.sleep(0.02)
