"""The steps of one job: open the backend, build the learner, train, evaluate, write the result.

The worker imports the component classes that its job names and no other plugin. Rank 0 writes
`result.json`; a rank that fails writes `failed-<rank>.json`, so that the parent can tell who fell first.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from metabench.contracts import Algorithm, Backend, Dataset, Learner, Metric, Network
from metabench.device import host
from metabench.device.device import Device, out_of_memory
from metabench.device.exchange import Joules, summed
from metabench.device.memory import keep_freed_memory
from metabench.engine.lift import Lifted
from metabench.errors import CellEnd, DataError
from metabench.records.cell import Cell, Spec, Status, Workload
from metabench.records.result import Result
from metabench.results.store import write_json
from metabench.runner.rank_failures import TAIL_LINES
from metabench.worker import cell_run
from metabench.worker.disturbance import look, marks
from metabench.worker.flops import flops_per_step
from metabench.worker.preflight import component


class Work:
    """The steps of one job, and what has been measured when one of them fails."""

    def __init__(self, job: Mapping[str, Any], folder: Path, started: float, imported: float) -> None:
        self.job, self.folder = job, folder
        self.host = host.host()  # before a backend binds this process to some of its cores
        cell = Cell.from_json(job["cell"])
        launched = job["launched"] or psutil.Process().create_time()
        start = max(0.0, started - launched)
        self.result = Result(
            cell=cell,
            status=Status.FAILED,
            started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
            command=job["command"],
            setup={"start": start, "import": imported - started},
        )
        self.rank = int(os.environ.get("RANK", "0"))
        self.progress = (folder / "progress.jsonl").open("a", encoding="utf-8") if self.rank == 0 else None
        self.loop_run: cell_run.Run | None = None

    def run(self) -> int:
        backend: Backend = self._component("backend", self.result.cell.backend)
        with backend.open() as device:
            self.rank = device.rank
            told = host.describe(self.job["provenance"], self.host, device.environment())
            self._note(environment=told)
            before = look(device)
            self._measure(device)
            after = look(device)
            self._note(
                environment={**self.result.environment, "before": before, "after": after},
                notes=marks(before, after),
            )
            if device.rank == 0:
                write_json(self.folder / "result.json", replace(self.result, status=Status.OK).to_json())
        return 0

    def _measure(self, device: Device) -> None:
        run = self.loop_run = self._build(device)
        energy = Joules(device)
        energy.resume()
        with device.numerics():
            cell_run.train(run)
            scores = cell_run.evaluate(run)
        energy.pause()
        self._note(
            training=run.training,
            scores=scores,
            path=_path(run.learner),
            energy=energy.summed(),
            memory=summed(device, device.peak_memory()),
        )
        self._note(cost=_cost(run))

    def _build(self, device: Device) -> cell_run.Run:
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
        return cell_run.Run(cell, learner, source, metric, device, self.say)

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
        if status.measured:  # these were foreseen, and their reason says it all
            text = "".join(traceback.format_exception(error))
            print(text, file=sys.stderr, flush=True)
            tail = text.rstrip().splitlines()[-TAIL_LINES:]
        told = replace(self.result, status=status, reason=reason, log_tail=tuple(tail)).to_json()
        write_json(self.folder / f"failed-{self.rank}.json", {**told, "rank": self.rank, "time": time.time()})


def _status(error: Exception) -> Status:
    if isinstance(error, CellEnd):
        return Status(error.status)
    if isinstance(error, DataError):
        return Status.INVALID
    return Status.OUT_OF_MEMORY if out_of_memory(error) else Status.FAILED


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


def _cost(run: cell_run.Run) -> dict[str, float]:
    """FLOPs of the last meta-step over all ranks; absent where they cannot be counted."""
    last = max(0, run.training.steps - 1)
    batch = cell_run.draw(run, last)
    if batch is None:
        return {}
    with run.device.numerics():
        own = flops_per_step(run.learner, batch, last, run.cell.budget.steps)
    ranks = [values[0] for values in run.device.gather([own or 0.0])]
    return {"flops_per_step": sum(ranks)} if all(ranks) else {}
