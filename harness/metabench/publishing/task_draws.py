"""The test tasks that a suite asks for, drawn here: `verify` compares their digest with the results'."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from metabench.errors import RequestError
from metabench.plugins import Registry
from metabench.records.cell import Cell, Spec, Split
from metabench.records.protocol import Protocol, protocol_from_json


@dataclass(frozen=True)
class TaskSet:
    """The tasks that a cell scores: of a data set with its settings as JSON, by a protocol and a seed."""

    dataset: str
    settings: str
    protocol: Protocol
    tasks: int
    seed: int
    split: Split = "test"

    @classmethod
    def of(cls, cell: Cell) -> TaskSet:
        """The tasks that a cell scores."""
        settings = json.dumps(dict(cell.tested.settings), sort_keys=True)
        evaluation = cell.evaluation
        return cls(
            cell.tested.name, settings, cell.test, evaluation.tasks, evaluation.seed, cell.scored_split
        )

    def to_json(self) -> dict[str, Any]:
        """The task set as plain JSON values; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TaskSet:
        """The task set that `to_json` wrote."""
        return cls(**{**document, "protocol": protocol_from_json(document["protocol"])})


class Drawn(NamedTuple):
    """The digest of tasks that were drawn, or why they could not be (empty where the data is not here).

    classes: key of the classes that they consist of, empty where they have none.
    """

    digest: str | None
    problem: str = ""
    classes: str = ""


def draw_tasks(registry: Registry, wanted: Iterable[TaskSet]) -> Iterator[Drawn]:
    """Draws task sets, one data set in memory at a time; loads torch."""
    source: Any = None
    loaded: tuple[str, str] | None = None
    for tasks in wanted:
        at = (tasks.dataset, tasks.settings)
        try:
            if at != loaded:
                source, loaded = None, None
                source, loaded = _load(registry, tasks), at
            yield _drawn(source, tasks) if source is not None else Drawn(None)
        except RequestError:  # no data set of that name and these settings is installed
            yield Drawn(None)
        except Exception as error:  # of a plugin; the other data sets are drawn all the same
            yield Drawn(None, f"{type(error).__name__}: {error}"[:300])


def _load(registry: Registry, tasks: TaskSet) -> Any:
    from metabench.device.device import Device

    dataset = registry.make("dataset", Spec(tasks.dataset, json.loads(tasks.settings)))
    return None if dataset.missing() is not None else dataset.load(Device())


def _drawn(source: Any, tasks: TaskSet) -> Drawn:
    from metabench.data.manifests import drawn_digest, task_classes

    classes = task_classes(source, tasks.split, tasks.protocol, tasks.tasks, tasks.seed)
    digest = drawn_digest(source, tasks.split, tasks.protocol, tasks.tasks, tasks.seed)
    return Drawn(digest, classes=classes.key if classes else "")
