"""Events: what happens to a cell while it runs, written by its worker and the runner for observers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from metabench.records.cell import Status


@dataclass(frozen=True)
class Event:
    """Something that happens to a running cell; stored as its fields and their `kind`."""

    kind: ClassVar[str] = ""

    def to_json(self) -> dict[str, Any]:
        """Return the event as plain JSON values; `event_from_json` reads it back."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class StartEvent(Event):
    """The cell starts, as the `number`th `of` this run; remote: it is sent to wait for another machine.

    apart: the settings that tell it from cells of the same name.
    """

    kind: ClassVar[str] = "start"
    number: int
    of: int
    remote: bool = False
    apart: str = ""


@dataclass(frozen=True)
class SetupEvent(Event):
    """The worker loads the data set and builds the learner."""

    kind: ClassVar[str] = "setup"


@dataclass(frozen=True)
class ResumeEvent(Event):
    """The cell goes on after `step` steps; with a reason, it starts anew though it had a checkpoint."""

    kind: ClassVar[str] = "resume"
    step: int
    reason: str = ""


@dataclass(frozen=True)
class TrainEvent(Event):
    """`step` of `steps` are done; the mean loss over the last block, and how long the rest should take."""

    kind: ClassVar[str] = "train"
    step: int
    steps: int
    loss: float
    tasks_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class ValidationEvent(Event):
    """The score of the validation tasks after `step` steps; half_width: of its 95 % interval."""

    kind: ClassVar[str] = "validation"
    step: int
    mean: float
    half_width: float


@dataclass(frozen=True)
class CheckpointEvent(Event):
    """No checkpoint could be written after `step` steps, for this reason; the cell goes on without it."""

    kind: ClassVar[str] = "checkpoint"
    step: int
    reason: str


@dataclass(frozen=True)
class EvaluateEvent(Event):
    """`done` of rank 0's `tasks` test tasks are scored."""

    kind: ClassVar[str] = "evaluate"
    done: int
    tasks: int


@dataclass(frozen=True)
class EndEvent(Event):
    """The cell has ended; mean, metric: the score of its test tasks, where they were scored."""

    kind: ClassVar[str] = "end"
    status: Status
    reason: str
    seconds: float
    mean: float | None = None
    metric: str = ""


EVENTS: Mapping[str, type[Event]] = {
    event.kind: event
    for event in (
        StartEvent,
        SetupEvent,
        ResumeEvent,
        TrainEvent,
        ValidationEvent,
        CheckpointEvent,
        EvaluateEvent,
        EndEvent,
    )
}
"""Every kind of event, in the order in which a cell meets them."""


def event_from_json(document: Mapping[str, Any]) -> Event:
    """Return the event that `to_json` wrote; raises KeyError, TypeError or ValueError on anything else."""
    fields = {name: value for name, value in document.items() if name != "kind"}
    if "status" in fields:
        fields["status"] = Status(fields["status"])
    return EVENTS[document["kind"]](**fields)
