"""One cell in its own process: a job file in, exactly one result file out.

    python -m metabench.worker results/local/quick-v1/jobs/<cell id>/job.json

The worker imports the component classes that its job names and no other plugin. Rank 0 writes
`result.json`; a rank that fails writes `failed-<rank>.json`, so that the parent can tell who fell first.
The exit status is 0 where a result was written, 1 where a rank failed.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

STARTED = time.time()

import psutil  # noqa: E402 - the clock above starts before the imports
import torch  # noqa: E402

from metabench import environment, loop  # noqa: E402
from metabench.allocation import keep_freed_memory  # noqa: E402
from metabench.contracts import Algorithm, Backend, Dataset, Learner, Metric, Network  # noqa: E402
from metabench.cost import flops_per_step  # noqa: E402
from metabench.device import Device, out_of_memory  # noqa: E402
from metabench.engine.lift import Lifted  # noqa: E402
from metabench.errors import CellEnd, DataError  # noqa: E402
from metabench.fallen import TAIL_LINES  # noqa: E402
from metabench.gathered import Joules, summed  # noqa: E402
from metabench.preflight import component  # noqa: E402
from metabench.probe import look, marks  # noqa: E402
from metabench.records import Cell, Spec, Workload  # noqa: E402
from metabench.result import Result  # noqa: E402
from metabench.store import write_json  # noqa: E402

IMPORTED = time.time()


def main(argv: list[str]) -> int:
    """Runs the job in this file; returns the exit status."""
    job_file = Path(argv[0])
    job = json.loads(job_file.read_text(encoding="utf-8"))
    _end_with_parent()
    if "RANK" in os.environ and hasattr(faulthandler, "register"):  # absent on Windows
        # a rank that hangs shows where when torchrun ends it: the others have given it up
        faulthandler.register(signal.SIGTERM, chain=True)
    work = _Work(job, job_file.parent)
    try:
        return work.run()
    except Exception as error:
        work.fail(error)
        return 1


class _Work:
    """The steps of one job, and what has been measured when one of them fails."""

    def __init__(self, job: Mapping[str, Any], folder: Path) -> None:
        self.job, self.folder = job, folder
        self.host = environment.host()  # before a backend binds this process to some of its cores
        cell = Cell.from_json(job["cell"])
        launched = job["launched"] or psutil.Process().create_time()
        start = max(0.0, STARTED - launched)
        self.result = Result(
            cell=cell,
            status="failed",
            started=datetime.fromtimestamp(STARTED, UTC).isoformat(timespec="seconds"),
            command=job["command"],
            setup={"start": start, "import": IMPORTED - STARTED},
        )
        self.rank = int(os.environ.get("RANK", "0"))
        self.progress = (folder / "progress.jsonl").open("a", encoding="utf-8") if self.rank == 0 else None
        self.loop_run: loop.Run | None = None

    def run(self) -> int:
        backend: Backend = self._component("backend", self.result.cell.backend)
        with backend.open() as device:
            self.rank = device.rank
            told = environment.describe(self.job["provenance"], self.host, device.environment())
            self._note(environment=told)
            before = look(device)
            self._measure(device)
            after = look(device)
            self._note(
                environment={**self.result.environment, "before": before, "after": after},
                notes=marks(before, after),
            )
            if device.rank == 0:
                write_json(self.folder / "result.json", replace(self.result, status="ok").to_json())
        return 0

    def _measure(self, device: Device) -> None:
        run = self.loop_run = self._build(device)
        energy = Joules(device)
        energy.resume()
        with device.numerics():
            loop.train(run)
            scores = loop.evaluate(run)
        energy.pause()
        self._note(
            training=run.training,
            scores=scores,
            path=_path(run.learner),
            energy=energy.summed(),
            memory=summed(device, device.peak_memory()),
        )
        self._note(cost=_cost(run))

    def _build(self, device: Device) -> loop.Run:
        cell = self.result.cell
        self.say({"kind": "setup"})
        keep_freed_memory()
        started = device.clock()
        dataset: Dataset = self._component("dataset", cell.dataset)
        source = dataset.load(device)
        loaded = device.clock()
        algorithm: Algorithm = self._component("algorithm", cell.algorithm)
        network: Network | None = self._component("network", cell.network) if cell.network else None
        metric: Metric = self._component("metric", Spec(cell.evaluation.metric))
        facts, budget = dataset.describe(), cell.budget
        workload = Workload(facts, cell.train, cell.test, budget.steps, budget.tasks, cell.seed)
        torch.manual_seed(cell.seed)  # torch's initialisers draw from its own generator
        learner = algorithm.build(workload, network, device)
        built = device.clock()
        self._note(
            setup={**self.result.setup, "data": loaded - started, "build": built - loaded},
            parameters=sum(p.numel() for p in learner.parameters()),
        )
        return loop.Run(cell, learner, source, metric, device, self.say)

    def _component(self, kind: str, spec: Spec) -> Any:
        return component(self.job, kind, spec)

    def say(self, event: Mapping[str, Any]) -> None:
        """Adds an event to the progress file, which the parent reads."""
        if self.progress is not None:
            self.progress.write(json.dumps(event) + "\n")
            self.progress.flush()

    def _note(self, **measured: Any) -> None:
        self.result = replace(self.result, **measured)

    def fail(self, error: Exception) -> None:
        """Writes down how this rank fell, with everything that was measured before."""
        run = self.loop_run
        if run is not None:
            self._note(path=_path(run.learner))
            if run.training.steps:
                self._note(training=run.training)
        status, reason = _status(error), _reason(error)
        tail: list[str] = []
        if status not in ("skipped", "invalid"):  # these were foreseen, and their reason says it all
            text = "".join(traceback.format_exception(error))
            print(text, file=sys.stderr, flush=True)
            tail = text.rstrip().splitlines()[-TAIL_LINES:]
        told = replace(self.result, status=status, reason=reason, log_tail=tuple(tail)).to_json()
        write_json(self.folder / f"failed-{self.rank}.json", {**told, "rank": self.rank, "time": time.time()})


def _status(error: Exception) -> str:
    if isinstance(error, CellEnd):
        return error.status
    if isinstance(error, DataError):
        return "invalid"
    return "out-of-memory" if out_of_memory(error) else "failed"


def _reason(error: Exception) -> str:
    if isinstance(error, (CellEnd, DataError)):
        return str(error)
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first}"


def _path(learner: Learner) -> str:
    """The engine path, with the reason where a network did not run by its rules."""
    parts = getattr(learner, "__dict__", {}).values()
    reasons = [one.reason for one in parts if isinstance(one, Lifted) and one.reason]
    return f"{learner.path} ({reasons[0].splitlines()[0]})" if reasons else learner.path


def _cost(run: loop.Run) -> dict[str, float]:
    """FLOPs of the last meta-step over all ranks; absent where they cannot be counted."""
    last = max(0, run.training.steps - 1)
    batch = loop.draw(run, last)
    if batch is None:
        return {}
    with run.device.numerics():
        own = flops_per_step(run.learner, batch, last, run.cell.budget.steps)
    ranks = [values[0] for values in run.device.gather([own or 0.0])]
    return {"flops_per_step": sum(ranks)} if all(ranks) else {}


def _end_with_parent() -> None:
    """Ends this process when whoever asked for the run is gone: no orphan keeps the cores busy.

    That is the launcher of this process (torchrun, or the runner itself), and the runner, which
    METABENCH_PARENT names as "pid:creation time"; a batch system leaves it unset.
    """
    launcher = os.getppid()
    told = os.environ.get("METABENCH_PARENT")
    pid, _, created = (told or f"{launcher}:").partition(":")

    def watch() -> None:
        while True:
            time.sleep(0.5)
            if os.getppid() != launcher:
                os._exit(1)
            if told and not _alive(int(pid), float(created)):
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
