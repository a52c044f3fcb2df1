"""The steps of one job: open the backend, build the learner, train, evaluate, write the result.

The worker imports the component classes that its job names and no other plugin. Rank 0 writes
`result.json`; a rank that fails writes `failed-<rank>.json`, so that the parent can tell which failed first.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from metabench.contracts import CONTRACT_VERSION, Backend, Learner
from metabench.device import host
from metabench.device.device import Device
from metabench.device.exchange import sum_over_ranks
from metabench.device.memory import out_of_memory
from metabench.engine import kernels
from metabench.errors import CellEnd, DataError
from metabench.folders import cache_folder
from metabench.records.cell import Spec, Status
from metabench.records.code import CACHE_NAME, Code, CodeReader
from metabench.records.identity import digest_of
from metabench.records.job import TAIL_LINES, JobFile, JobFolder
from metabench.records.progress import Event
from metabench.records.result import Result
from metabench.results.predictions import Predictions, join, read_predictions
from metabench.results.states import write_state
from metabench.worker.cell_run import CellRun, build, draw
from metabench.worker.checkpoint import CheckpointFile
from metabench.worker.disturbance import disturbances, measure_machine
from metabench.worker.evaluation import evaluate
from metabench.worker.flops import flops_per_step
from metabench.worker.interrupt import before_sigterm
from metabench.worker.preflight import make_component
from metabench.worker.resume import lifted_networks, resume, save_interrupted
from metabench.worker.training import train


class Work:
    """The steps of one job, and what has been measured when one of them fails.

    started: the time of day, in seconds of the epoch; setup: the seconds of "start" and "import".
    """

    def __init__(self, job: JobFile, folder: JobFolder, started: float, setup: Mapping[str, float]) -> None:
        self.job, self.folder = job, folder
        self.host = host.host()  # before a backend binds this process to some of its cores
        self.result = Result(
            cell=job.cell,
            status=Status.FAILED,
            contract=CONTRACT_VERSION,
            started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
            command=job.command,
            setup=setup,
        )
        self.rank = int(os.environ.get("RANK", "0"))
        self.cell_run: CellRun | None = None

    def run(self) -> int:
        """Run the cell on its backend and write its result; return the exit status."""
        backend: Backend = self._make_component("backend", self.result.cell.backend)
        with backend.open() as device:
            self.rank = device.rank
            environment = host.describe(self.job.provenance, self.host, device.environment())
            self._note(environment=environment, code=self._code())
            before = measure_machine(device)
            self._measure(device)
            after = measure_machine(device)
            self._note(
                environment={**environment, "before": before, "after": after},
                notes=disturbances(before, after),
            )
            if device.rank == 0:
                self.folder.write_result(replace(self.result, status=Status.OK))
        return 0

    def _code(self) -> Code:
        """The digests of the code that this process runs."""
        reader = CodeReader(cache_folder() / CACHE_NAME)
        return reader.code_of(self.job.components, self.job.cell.plugins)

    def _measure(self, device: Device) -> None:
        run = self._build(device)
        self._prepare_checkpoints(run)
        run.energy.resume()
        with device.numerics():
            train(run)
            scores = evaluate(run)
        run.energy.pause()
        self._keep_state(run)
        self._note(
            training=run.training,
            scores=scores,
            path=_engine_path(run.learner),
            energy=run.energy.joules(),
            memory=sum_over_ranks(device, device.peak_memory()),
        )
        self._note(predictions=self._keep_predictions(run), cost=_cost(run))

    def _keep_predictions(self, run: CellRun) -> str:
        """Write the predictions of all ranks into one file of the job's folder; return its digest, or ""."""
        if not run.cell.evaluation.predictions:
            return ""
        device, digest = run.device, run.cell.digest
        part = Predictions(digest, run.learner.outputs, run.predictions)
        part.write(self.folder.predictions_of(device.rank))
        device.gather([])  # returns when every rank has written its part
        if device.rank != 0:
            return ""
        parts = map(self.folder.predictions_of, range(device.world_size))
        return join(map(read_predictions, parts)).write(self.folder.predictions)

    def _build(self, device: Device) -> CellRun:
        run = self.cell_run = build(
            self.result.cell, self._make_component, device, self.emit, self.job.weights
        )
        self._note(
            setup={**self.result.setup, **run.setup},
            parameters=sum(parameter.numel() for parameter in run.learner.parameters()),
        )
        return run

    def _prepare_checkpoints(self, run: CellRun) -> None:
        """Go on from the cell's checkpoint; from now on, leave one when this process is asked to end."""
        if not self.job.checkpoint or not run.cell.trains:
            return
        path, seconds = Path(self.job.checkpoint), self.job.checkpoint_seconds
        run.checkpoint = CheckpointFile(path, self._made_by(run.device), seconds)
        resume(run)
        if run.device.rank == 0:
            before_sigterm(partial(save_interrupted, run))

    def _made_by(self, device: Device) -> dict[str, str]:
        """What a checkpoint must share with this process for its numbers to go on to the bit."""
        environment = self.result.environment
        return {
            "cell": self.result.cell.digest,
            "code": f"{environment.get('packages')} {digest_of(self.result.code)}",
            "torch": torch.__version__,
            "machine": str(environment.get("machine")),
            "device": f"{environment.get('gpu') or environment.get('processor')} {device.torch}",
            "threads": str(torch.get_num_threads()),
            "kernels": kernels.status().partition(":")[0],
        }

    def _keep_state(self, run: CellRun) -> None:
        if self.job.keep_state and not run.cell.scored and run.device.rank == 0:
            self._note(state=write_state(self.folder.state, run.learner.state_dict()))

    def _make_component(self, kind: str, spec: Spec) -> Any:
        return make_component(self.job, kind, spec)

    def emit(self, event: Event) -> None:
        """Add an event to the progress file, which the parent reads; a full disk ends no cell."""
        if self.rank == 0:
            with suppress(OSError):
                self.folder.append_event(event)

    def _note(self, **measured: Any) -> None:
        self.result = replace(self.result, **measured)

    def fail(self, error: Exception) -> None:
        """Write down how this rank failed, with everything that was measured before."""
        run = self.cell_run
        if run is not None:
            self._note(path=_engine_path(run.learner))
            if run.training.steps:
                self._note(training=run.training)
        status, reason = _status(error), _reason(error)
        tail: list[str] = []
        if status.measured:  # the others were foreseen, and their reason is enough
            text = "".join(traceback.format_exception(error))
            print(text, file=sys.stderr, flush=True)
            tail = text.rstrip().splitlines()[-TAIL_LINES:]
        self._note(status=status, reason=reason, log_tail=tuple(tail))
        self.folder.write_failure(self.rank, self.result)
        if run is not None:
            with run.guard.still():  # a checkpoint that is being written is written whole
                pass


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


def _engine_path(learner: Learner) -> str:
    """The learner's execution path, with the reason where a network did not run by its rules."""
    reasons = [lifted.reason for lifted in lifted_networks(learner).values() if lifted.reason]
    return f"{learner.path} ({reasons[0].splitlines()[0]})" if reasons else learner.path


def _cost(run: CellRun) -> dict[str, float]:
    """FLOPs of the last meta-step over all ranks; absent where they cannot be counted."""
    if not run.cell.trains:
        return {}
    last = max(0, run.training.steps - 1)
    with run.device.numerics():
        steps = run.cell.planned_steps
        counts = [flops_per_step(run.learner, batch, last, steps) or 0.0 for batch in draw(run, last)]
    own = sum(counts) if all(counts) else 0.0
    ranks = [values[0] for values in run.device.gather([own])]
    return {"flops_per_step": sum(ranks)} if all(ranks) else {}
