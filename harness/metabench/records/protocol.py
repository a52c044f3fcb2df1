"""The shape of a task: a protocol, ranges of it, and batches of labelled examples in place of tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from metabench.records.identity import counted_fields
from metabench.settings import REQUIRED, setting

SAMPLINGS = ("uniform", "uneven", "meta-dataset")
"""How the shape of a task is drawn, where a protocol has ranges."""

SHAPE = ("ways", "shots", "queries")
"""The numbers of a protocol."""

BATCHES = "batches of"
"""How `Batches` begin in words."""


@dataclass(frozen=True)
class Protocol:
    """The shape of a task: `ways` classes, `shots` support and `queries` query examples of each.

    A regression task has one way: `shots` support points and `queries` query points.
    """

    ways: int = setting(REQUIRED, "classes of a task (1 for regression)", at_least=1)
    shots: int = setting(REQUIRED, "support examples of each class", at_least=1)
    queries: int = setting(REQUIRED, "query examples of each class", at_least=1)

    def with_ways(self, ways: int) -> "Protocol":
        """Return the same protocol with these ways, in all tasks."""
        return self.with_shape(ways=ways)

    def with_queries(self, queries: int) -> "Protocol":
        """Return the same protocol with these queries, in all tasks."""
        return self.with_shape(queries=queries)

    def with_shape(self, **numbers: int) -> "Protocol":
        """Return the same protocol with these of `ways`, `shots` and `queries`, in all tasks."""
        varied = isinstance(self, VariedProtocol)
        least = {f"least_{name}": number for name, number in numbers.items()} if varied else {}
        return replace(self, **numbers, **least)

    @property
    def spans(self) -> dict[str, str]:
        """Ways, shots and queries by name, each as a text: "5", or "5–20" where it is a range."""
        return {name: str(getattr(self, name)) for name in SHAPE}

    @property
    def short(self) -> str:
        """The protocol as part of a name: `5w1s`."""
        return f"{self.ways}w{self.shots}s"

    def __str__(self) -> str:
        """Return the protocol in words: `5-way 1-shot`, or `10-shot` for a regression task."""
        return task_text(self.ways, self.shots)


@dataclass(frozen=True)
class UnevenProtocol(Protocol):
    """The shape of a task whose classes have different shots, `class_shots`; `shots` is the most of them."""

    class_shots: tuple[int, ...] = ()


@dataclass(frozen=True)
class VariedProtocol(Protocol):
    """Tasks of different shapes: `ways`, `shots` and `queries` are the most of each, `least_…` the least.

    sampling: how a task's shape is drawn, see `metabench.data.shapes`.
    """

    least_ways: int = setting(1, "fewest classes of a task", at_least=1)
    least_shots: int = setting(1, "fewest support examples of a class", at_least=1)
    least_queries: int = setting(1, "fewest query examples of a class", at_least=1)
    sampling: str = setting(
        "uniform",
        "how shapes are drawn: 'uniform', each number by itself; 'uneven', shots for each class of a task; "
        "'meta-dataset', by the rule of Meta-Dataset",
        choices=SAMPLINGS,
    )

    def counted(self) -> dict[str, Any]:
        """Return what a cell's digest counts: ranges that begin at their defaults are no plain protocol."""
        return {"varied": True, **counted_fields(self)}

    def restated(self, **numbers: int) -> Protocol:
        """Return the protocol of tests that state these of `ways`, `shots` and `queries`.

        Stated shots take the place of a rule that draws them; without a range left it is a plain protocol.
        """
        by_rule = self.sampling == "meta-dataset"
        if by_rule and "shots" not in numbers:
            return self.with_shape(**numbers)
        given = {"queries": self.queries, **numbers} if by_rule else numbers
        stated = replace(self, sampling="uniform" if by_rule else self.sampling).with_shape(**given)
        if any(getattr(stated, f"least_{name}") < getattr(stated, name) for name in SHAPE):
            return stated
        return Protocol(stated.ways, stated.shots, stated.queries)

    @property
    def spans(self) -> dict[str, str]:
        """Ways, shots and queries by name: "5–20"."""
        return {
            name: _span(getattr(self, f"least_{name}"), int(most)) for name, most in super().spans.items()
        }

    @property
    def short(self) -> str:
        """The protocol as part of a name: `5-20w1-10s`."""
        return f"{_span(self.least_ways, self.ways, '-')}w{_span(self.least_shots, self.shots, '-')}s"

    def __str__(self) -> str:
        """Return the protocol in words: `5–20-way 1–10-shot`."""
        ways, shots = _span(self.least_ways, self.ways), _span(self.least_shots, self.shots)
        words = f"{ways}-way {shots}-shot" if self.ways > 1 else f"{shots}-shot"
        return words if self.sampling == "uniform" else f"{words}, {self.sampling}"


def protocol_from_json(document: Mapping[str, Any]) -> Protocol:
    """Return the protocol that a cell's JSON holds."""
    return (VariedProtocol if "sampling" in document else Protocol)(**document)


@dataclass(frozen=True)
class Batches:
    """Ordinary supervised training: `size` labelled examples of meta-train a step, in micro-batches.

    Each micro-batch of `micro` examples, which divides `size`, has its own statistics, so that N ranks
    compute what one does.
    """

    size: int
    micro: int = 16

    def __str__(self) -> str:
        """Return how the cell trains in words: `batches of 64`."""
        return f"{BATCHES} {self.size}"

    @property
    def units(self) -> int:
        """How many micro-batches a step has: what ranks share out."""
        return self.size // self.micro


def _span(least: int, most: int, dash: str = "–") -> str:
    return str(most) if least == most else f"{least}{dash}{most}"


def task_text(ways: int, shots: int) -> str:
    """A task in words: `5-way 1-shot`, or `10-shot` for a regression task, which has one way."""
    return f"{ways}-way {shots}-shot" if ways > 1 else f"{shots}-shot"
