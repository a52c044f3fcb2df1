"""Plain data that floors hand to each other: protocols, facts, cells, jobs and results. No torch here."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from metabench.settings import REQUIRED, setting

SPLITS = ("train", "validation", "test")
Split = Literal["train", "validation", "test"]

STATUSES: dict[str, bool] = {
    # status: does a later run try the cell again?
    "ok": False,
    "diverged": False,
    "out-of-memory": False,
    "skipped": True,
    "invalid": True,
    "failed": True,
    "timed-out": True,
}
"""Every status that a result can have, and whether a later run tries the cell again."""


@dataclass(frozen=True)
class Protocol:
    """The shape of a task: `ways` classes, `shots` support and `queries` query examples of each.

    A regression task has one way: `shots` support points and `queries` query points.
    """

    ways: int = setting(REQUIRED, "classes of a task (1 for regression)", at_least=1)
    shots: int = setting(REQUIRED, "support examples of each class", at_least=1)
    queries: int = setting(REQUIRED, "query examples of each class", at_least=1)


@dataclass(frozen=True)
class Batches:
    """Ordinary supervised training: `size` labelled examples of meta-train a step, in micro-batches.

    Each micro-batch of `micro` examples, which divides `size`, has its own statistics, so that N ranks
    compute what one does.
    """

    size: int
    micro: int = 16

    @property
    def units(self) -> int:
        """How many micro-batches a step has: what ranks share out."""
        return self.size // self.micro


@dataclass(frozen=True)
class Facts:
    """What is known of a data set without loading it.

    kind: "classification" or "regression"; input_shape without batch axes, e.g. (1, 28, 28);
    outputs: width of a regression target, None for classification; classes: per split, the number of
    classes (0: endless); images: per split, the fewest examples that any class has (0: endless);
    content: a digest, in hexadecimal digits, of data that name and settings do not fix, such as the user's
    own files. Where the data set has a setting `content`, it becomes part of every cell.
    """

    kind: Literal["classification", "regression"]
    input_shape: tuple[int, ...]
    outputs: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    images: Mapping[str, int] = field(default_factory=dict)
    content: str = ""


@dataclass(frozen=True)
class Workload:
    """What a learner is built for: the data's facts, both protocols, the budget and the seed."""

    facts: Facts
    train: "Protocol | Batches | None"
    test: Protocol
    steps: int = 0
    tasks: int = 1
    seed: int = 0

    @property
    def outputs(self) -> int:
        """How many numbers a prediction has: the ways of the test protocol, or the target's width."""
        return self.facts.outputs if self.facts.outputs is not None else self.test.ways


@dataclass(frozen=True)
class Spec:
    """A component as a cell names it: its name and all of its settings, defaults filled in."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Budget:
    """How much training a cell may spend and how it is watched.

    `tasks` counts labelled examples for a learner that trains on batches instead of tasks.
    """

    steps: int = setting(0, "meta-steps; 0 scores the untrained network", at_least=0)
    tasks: int = setting(32, "tasks of a meta-step, over all ranks", at_least=1)
    seconds: float = setting(0.0, "end training after this much training time; 0 for no limit", at_least=0)
    validate_every: int = setting(0, "steps between validations; 0 for none", at_least=0)
    validation_tasks: int = setting(100, "tasks of each validation", at_least=2)
    target: float | None = setting(None, "end training once validation reaches this score")


@dataclass(frozen=True)
class Evaluation:
    """How a cell is scored; test tasks have their own seed, the same for every algorithm and backend."""

    tasks: int = setting(600, "test tasks", at_least=2)
    seed: int = setting(2026, "seed of the test and validation tasks", at_least=0)
    batch: int = setting(32, "tasks scored at once", at_least=1)
    metric: str = setting("", "accuracy, mse, …; by default that of the data set's kind")
    curve: tuple[int, ...] = setting((), "adaptation steps at which the scores are taken too", at_least=0)
    latency_tasks: int = setting(0, "tasks adapted one at a time, for the latency", at_least=0)


@dataclass(frozen=True)
class Cell:
    """The unit of a suite that runs, fails, resumes and is stored."""

    suite: str
    suite_version: int
    algorithm: Spec
    network: Spec | None
    dataset: Spec
    test: Protocol
    train: Protocol | Batches | None
    budget: Budget
    evaluation: Evaluation
    backend: Spec
    seed: int
    plugins: Mapping[str, str]  # "algorithm", "network", …: "distribution version"
    group: str = ""  # the table of the suite that the cell belongs to, e.g. "scaling"
    label: str = ""  # what the suite calls this variant; part of no digest
    expect: tuple[str, ...] = ()  # statuses that the suite declares as expected; part of no digest

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that changes the number, as 64 hexadecimal digits."""
        left_out = ("label", "expect", "group", "digest")
        return digest_of({name: value for name, value in vars(self).items() if name not in left_out})

    @property
    def id(self) -> str:
        """A readable and unique name, fit for a file: `maml-conv4-glyphs-5w1s-cpu-s0-1a2b3c4d5e`."""
        parts = [self.algorithm.name, self.network.name if self.network else "", self.dataset.name]
        shape = f"{self.test.ways}w{self.test.shots}s"
        ranks = self.backend.settings.get("ranks")
        backend = self.backend.name + (f"{ranks}" if ranks else "")
        parts += [shape, backend, f"s{self.seed}", self.digest[:10]]
        return "-".join(p for p in parts if p).replace("+", "p")

    def to_json(self) -> dict[str, Any]:
        """The cell as plain JSON values; `from_json` reads it back."""
        told: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if self.train is not None:
            told["train"]["kind"] = "episodes" if isinstance(self.train, Protocol) else "batches"
        return told

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Cell":
        """The cell that `to_json` wrote; raises KeyError or TypeError on anything else."""
        train = told["train"]
        if train is not None:
            fields = {k: v for k, v in train.items() if k != "kind"}
            train = Protocol(**fields) if train["kind"] == "episodes" else Batches(**fields)
        evaluation = dict(told["evaluation"])
        evaluation["curve"] = tuple(evaluation["curve"])
        return cls(
            **{
                **told,
                "algorithm": Spec(**told["algorithm"]),
                "network": Spec(**told["network"]) if told["network"] else None,
                "dataset": Spec(**told["dataset"]),
                "backend": Spec(**told["backend"]),
                "test": Protocol(**told["test"]),
                "train": train,
                "budget": Budget(**told["budget"]),
                "evaluation": Evaluation(**evaluation),
                "expect": tuple(told["expect"]),
            }
        )


def digest_of(told: Any) -> str:
    """SHA-256 of plain JSON values (records as their fields), written with sorted keys and no spaces."""
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=vars)
    return hashlib.sha256(text.encode()).hexdigest()
