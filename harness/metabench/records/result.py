"""The result of one cell, stored as JSON. No torch here.

Raw values are kept (block times, per-task scores); intervals, speed-ups and ranks are computed for reports.
"""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import nan
from statistics import fmean
from typing import Any

from metabench.records.cell import Cell, Status
from metabench.records.identity import digest_of
from metabench.records.metric_scores import MetricScores
from metabench.records.task_classes import TaskClasses
from metabench.records.tuning import TuningRecord
from metabench.records.upgrade import upgrade

SCHEMA = 3


@dataclass(frozen=True)
class Block:
    """Some consecutive training steps, timed together on the slowest rank's clock.

    seconds: the whole block; sampling, learning, updating, communication: its parts, on that rank as well
    (on an NVIDIA GPU between events in its queue of work).
    """

    steps: int
    seconds: float
    sampling: float = 0.0
    learning: float = 0.0
    updating: float = 0.0
    communication: float = 0.0


@dataclass(frozen=True)
class Validation:
    """The score of the validation tasks after `step` steps and `train_seconds` of training."""

    step: int
    train_seconds: float
    mean: float
    half_width: float


@dataclass(frozen=True)
class Training:
    """How training went: its blocks, its losses, its validations and the state that was kept.

    tasks: what was trained on, tasks or (with `Batches`) labelled examples; energy: joules by meter while
    the training clock ran, summed over ranks, and target_energy until the target was reached (empty where
    no meter can be read, or the target was missed); annealed: whether the learner says that its steps become
    (almost) zero towards the end.
    """

    steps: int = 0
    tasks: int = 0
    seconds: float = 0.0
    warmup: tuple[Block, ...] = ()
    blocks: tuple[Block, ...] = ()
    losses: tuple[tuple[int, float], ...] = ()
    validations: tuple[Validation, ...] = ()
    validation_seconds: float = 0.0
    best_step: int | None = None
    target_step: int | None = None
    target_seconds: float | None = None
    energy: Mapping[str, float] = field(default_factory=dict)
    target_energy: Mapping[str, float] = field(default_factory=dict)
    ended_by: str = "steps"  # steps, seconds, target, patience or images
    resumed: tuple[int, ...] = ()  # the steps after which the cell went on from a checkpoint
    annealed: bool = field(default=False, metadata={"optional": True})

    def timeline(self, warmup_steps: int) -> list[Block]:
        """Return the blocks in the order of their steps; warmup_steps: of the cell, after each start."""
        if not self.resumed:
            return [*self.warmup, *self.blocks]
        warmup, blocks, timeline = deque(self.warmup), deque(self.blocks), list[Block]()
        step = 0
        while warmup or blocks:
            cold = any(start <= step < start + warmup_steps for start in (0, *self.resumed))
            block = warmup.popleft() if warmup and (cold or not blocks) else blocks.popleft()
            timeline.append(block)
            step += block.steps
        return timeline


@dataclass(frozen=True)
class Scores:
    """The test tasks' scores, in the order of the tasks, and how long they took.

    adapt_seconds: one value per evaluated batch, of `adapt_tasks` tasks each; latency_seconds: single
    tasks; curve: adaptation steps (as text) → scores per task; transductive: what the algorithm claims;
    transductive_found: what permuting and splitting the queries showed (None: not checked); overlap: of
    groups in training and test, where another data set is tested, "none" or "unknown"; further: what
    further metrics give, by their title (`ece`, `ece:bins=5`); classes: which classes each task consists of
    (None: not recorded, or endless).
    """

    metric: str
    unit: str
    higher_is_better: bool
    per_task: tuple[float, ...]
    manifest: str
    seconds: float
    adapt_seconds: tuple[float, ...] = ()
    adapt_tasks: tuple[float, ...] = ()
    predict_seconds: float = 0.0
    latency_seconds: tuple[float, ...] = ()
    curve: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    transductive: bool = False
    transductive_found: bool | None = None
    overlap: str = ""
    state: str = "last"  # which state was scored: "last", "best validation, step N", or "kept"
    further: Mapping[str, MetricScores] = field(default_factory=dict)
    classes: TaskClasses | None = field(default=None, metadata={"optional": True})


@dataclass(frozen=True)
class Result:
    """Exactly one per cell: the cell, its status with the reason, and everything that was measured.

    setup: seconds of "start" (process launch to worker), "import", "data", "build"; memory: peak bytes,
    "host" and where there is one "device", summed over ranks; energy: joules by meter of training and
    evaluation, summed over ranks, absent where no meter exists; cost: e.g. "flops_per_step"; notes: what
    a reader must know ("clock throttled"); contract: the version of the contracts between harness and
    plugins that it was made under (0: not recorded); code: digests of the code that made it, by kind of
    component and "harness", empty where they were not recorded; predictions: SHA-256 of the stored
    predictions, empty without any; tuning: the trials that its cell's settings were chosen from (a file
    without them has no such field); logs: by logger, where its run of the cell is, a URL or a path from the
    folder of the result (likewise).
    """

    cell: Cell
    status: Status
    reason: str = ""
    log_tail: tuple[str, ...] = ()
    exit_code: int | None = None
    signal: str | None = None
    started: str = ""
    wall_seconds: float = 0.0
    command: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""  # the engine path that the learner took
    parameters: int = 0
    setup: Mapping[str, float] = field(default_factory=dict)
    training: Training | None = None
    scores: Scores | None = None
    memory: Mapping[str, float] = field(default_factory=dict)
    energy: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    contract: int = 0
    code: Mapping[str, str] = field(default_factory=dict)
    state: str = ""  # SHA-256 of the learned state that was scored, in safetensors; empty: it was not kept
    predictions: str = ""  # SHA-256 of the stored predictions of the test tasks; empty: they were not kept
    tuning: TuningRecord | None = None
    logs: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def final(self) -> bool:
        """Whether no later run tries the cell again: its status is final, or its suite expects it."""
        return self.status.final or self.status in self.cell.expect

    @property
    def bad(self) -> bool:
        """Whether a person must look at it: the status is bad, and the suite does not expect it."""
        return self.status.bad and self.status not in self.cell.expect

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values, with the cell's digest, the mean score and a seal over it all.

        The seal is a digest of everything else: `verify` names a file that was edited by hand.
        """
        document = asdict(self)
        document["cell"] = self.cell.to_json()
        if self.tuning is None:
            del document["tuning"]
        if not self.logs:
            del document["logs"]
        document["digest"] = self.cell.digest
        document["mean"] = fmean(self.scores.per_task) if self.scores and self.scores.per_task else None
        # a byte of a path that is no UTF-8 becomes "?": no file could be read that holds half a character
        text = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
        plain: dict[str, Any] = json.loads(text, parse_constant=lambda name: None)
        plain["seal"] = digest_of(plain)
        return plain

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Result":
        """The result that `to_json` wrote; raises KeyError, TypeError or ValueError on anything else."""
        document = upgrade(document, SCHEMA)
        names = {field.name for field in fields(cls)}
        values = {name: value for name, value in document.items() if name in names}
        values["cell"] = Cell.from_json(document["cell"])
        values["status"] = Status(document["status"])
        values["log_tail"] = tuple(document["log_tail"])
        values["notes"] = tuple(document["notes"])
        if document["training"] is not None:
            values["training"] = training_from_json(document["training"])
        if document["scores"] is not None:
            values["scores"] = _scores(document["scores"])
        if document.get("tuning") is not None:
            values["tuning"] = TuningRecord.from_json(document["tuning"])
        return cls(**values)


def training_from_json(document: Mapping[str, Any]) -> Training:
    """Return the training in a result's JSON; raises KeyError or TypeError on anything else."""
    return Training(
        **{
            **document,
            "resumed": tuple(document.get("resumed", ())),
            "warmup": tuple(Block(**b) for b in document["warmup"]),
            "blocks": tuple(Block(**b) for b in document["blocks"]),
            "losses": tuple((int(step), _number(loss)) for step, loss in document["losses"]),
            "validations": tuple(
                Validation(**{**v, "mean": _number(v["mean"]), "half_width": _number(v["half_width"])})
                for v in document["validations"]
            ),
        }
    )


def _scores(document: Mapping[str, Any]) -> Scores:
    lists = ("per_task", "adapt_seconds", "adapt_tasks", "latency_seconds")
    return Scores(
        **{
            **document,
            **{name: _numbers(document[name]) for name in lists},
            "curve": {steps: _numbers(scores) for steps, scores in document["curve"].items()},
            "further": {name: MetricScores.from_json(scores) for name, scores in document["further"].items()},
            "classes": TaskClasses.from_json(document["classes"]) if document.get("classes") else None,
        }
    )


def _numbers(values: Sequence[float | None]) -> tuple[float, ...]:
    # thousands of results are read at once: looking for None is quicker than asking each value
    return tuple(map(_number, values)) if None in values else tuple(values)  # type: ignore[arg-type]


def _number(value: float | None) -> float:
    """JSON has no NaN and no infinity: `to_json` writes null for them."""
    return nan if value is None else float(value)
