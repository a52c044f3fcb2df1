"""The cell: one algorithm on one data set and backend with one seed, and the records that it is made of."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal

from metabench.presets import expand_preset
from metabench.records.identity import RULE, canonical_json, counted_parts, digest_of_parts
from metabench.records.protocol import Batches, Protocol, protocol_from_json
from metabench.settings import at_default, complete, setting

SPLITS = ("train", "validation", "test")
Split = Literal["train", "validation", "test"]

COMPONENTS = ("algorithm", "network", "dataset", "test_dataset", "backend")
"""The components that are fields of a cell and keys of a suite file; a metric is in `evaluation`."""


def component_kind(part: str) -> str:
    """Return the kind of component that a part of a cell is: a test_dataset is a dataset."""
    return "dataset" if part == "test_dataset" else part


NETWORK_WEIGHTS = "network:"
"""How a cell's `weights` begin where its network alone starts from them."""


class Status(StrEnum):
    """How a cell ended. Its properties answer what the rest of metabench asks about that."""

    OK = "ok"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out-of-memory"
    SKIPPED = "skipped"
    INVALID = "invalid"
    FAILED = "failed"
    TIMED_OUT = "timed-out"

    @property
    def final(self) -> bool:
        """Whether later runs keep the result: running the cell again would give the same."""
        return self in (Status.OK, Status.DIVERGED, Status.OUT_OF_MEMORY)

    @property
    def measured(self) -> bool:
        """Whether the cell began: it was neither skipped nor refused as invalid."""
        return self not in (Status.SKIPPED, Status.INVALID)

    @property
    def honest(self) -> bool:
        """Whether a published result may have it though its suite does not expect it.

        A crash, a time limit or too little memory is of the machine or the program, not of the algorithm.
        """
        return self in (Status.OK, Status.DIVERGED, Status.SKIPPED)

    @property
    def agreed(self) -> bool:
        """Whether all ranks of a cell reach it together, so that no rank is the first to fail."""
        return self in (Status.DIVERGED, Status.SKIPPED, Status.INVALID)

    @property
    def bad(self) -> bool:
        """Whether a person must look at the result, unless the suite expects the status."""
        return self not in (Status.OK, Status.SKIPPED)


@dataclass(frozen=True)
class Facts:
    """What is known of a data set without loading it.

    kind: "classification" or "regression"; input_shape without batch axes, e.g. (1, 28, 28);
    outputs: width of a regression target, None for classification; classes: per split, the number of
    classes (0: endless); images: per split, the fewest examples that any class has (0: endless);
    content: a digest, in hexadecimal digits, of data that name and settings do not fix, such as the user's
    own files. Where the data set has a setting `content`, it becomes part of every cell.
    groups: per split, what its classes come from, as "vocabulary:name", e.g. "script:Greek"; a cell that is
    trained on one data set and tested on another must have none in both. tasks: per split with an official
    list of tasks, their number; these do not depend on the seed, and numbers beyond them raise `Invalid`.
    """

    kind: Literal["classification", "regression"]
    input_shape: tuple[int, ...]
    outputs: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    images: Mapping[str, int] = field(default_factory=dict)
    content: str = ""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tasks: Mapping[str, int] = field(default_factory=dict)


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
    """A component as a cell names it: its name and all of its settings, defaults filled in.

    defaults: the settings that equal their default, which a cell's digest leaves out.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    defaults: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, component: type, given: Mapping[str, Any]) -> "Spec":
        """Return the spec of a component class with these settings; raises SettingError for a wrong one.

        A `preset` among them is replaced by the settings that it stands for.
        """
        settings = complete(component, expand_preset(component, given))
        name: str = component.name  # type: ignore[attr-defined]  # every component class has one
        return cls(name, settings, at_default(component, settings))

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Spec":
        """Return the spec that a cell's JSON holds; raises KeyError or TypeError on anything else."""
        return cls(**{**document, "defaults": tuple(document["defaults"])})

    def counted(self) -> dict[str, Any]:
        """Return what the cell's digest counts: its name and the settings that are no defaults."""
        own = {name: value for name, value in self.settings.items() if name not in self.defaults}
        return {"name": self.name, "settings": own}

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
    patience: int = setting(
        0, "end training after this many validations in a row without a new best score; 0 for never",
        at_least=0,
    )  # fmt: skip
    images: int = setting(
        0, "end training after this many images, support and queries, over all ranks; 0 for no limit",
        at_least=0,
    )  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """How a cell is scored; test tasks have their own seed, the same for every algorithm and backend."""

    tasks: int = setting(600, "test tasks", at_least=2)
    seed: int = setting(2026, "seed of the test and validation tasks", at_least=0)
    batch: int = setting(32, "tasks scored at once", at_least=1)
    metric: str = setting("", "accuracy, mse, …; by default that of the data set's kind")
    curve: tuple[int, ...] = setting((), "adaptation steps at which the scores are taken too", at_least=0)
    latency_tasks: int = setting(0, "tasks adapted one at a time, for the latency", at_least=0)
    metrics: tuple[Spec, ...] = setting((), "the metric that ranks, then others of the same predictions")
    predictions: bool = setting(False, "store the prediction of each query beside the result")


@dataclass(frozen=True)
class Cell:
    """The unit of a suite that runs, fails, resumes and is stored.

    test_dataset: what is scored, where it is not `dataset`; weights: SHA-256 of the learned state that the
    learner starts from, or after "network:" that its network alone starts from; scored: digest of the cell
    whose kept state it scores; tuning: the search for its settings, see `metabench.records.tuning`. group,
    label (what the suite calls this variant) and expect (statuses that the suite declares as expected) are
    part of no digest; digest_rule: see `metabench.records.identity`.
    """

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
    label: str = ""
    expect: tuple[str, ...] = ()
    test_dataset: Spec | None = None
    weights: str = ""
    scored: str = ""
    tuning: Mapping[str, Any] = field(default_factory=dict)
    digest_rule: int = RULE

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that changes the number and is no default, as 64 hexadecimal digits."""
        return self.key()

    @cached_property
    def configuration(self) -> str:
        """A digest that is equal for cells which differ in nothing but their seed."""
        return self.key(("seed",))

    def key(self, without: Iterable[str] = ()) -> str:
        """Return a digest that is equal for cells which differ in nothing but the parts `without`.

        A part is a field ("seed", "backend") or a field of one ("plugins.backend", "budget.tasks",
        "train.size"); a cell that lacks it has nothing to leave out.
        """
        parts = dict(self._parts)
        for path in without:
            name, _, inner = path.partition(".")
            text = parts.pop(name, "null")
            content = json.loads(text) if inner else None
            if content is not None:
                parts[name] = canonical_json({key: value for key, value in content.items() if key != inner})
        return digest_of_parts(parts)

    @cached_property
    def _parts(self) -> dict[str, str]:
        """Every field that changes the number, as canonical JSON."""
        return counted_parts(self, self.digest_rule)

    def components(self) -> dict[str, Spec]:
        """The components that the cell has, by kind: those of `COMPONENTS`, then the metric."""
        specs: dict[str, Spec | None] = {kind: getattr(self, kind) for kind in COMPONENTS}
        specs["metric"] = Spec(self.evaluation.metric) if self.evaluation.metric else None
        return {kind: spec for kind, spec in specs.items() if spec is not None}

    @property
    def ranks(self) -> int:
        """How many ranks share the cell's tasks: the backend's setting of that name, 1 where it has none."""
        ranks = self.backend.settings.get("ranks")
        return ranks if type(ranks) is int and ranks > 0 else 1

    @property
    def tested(self) -> Spec:
        """The data set that is scored."""
        return self.test_dataset or self.dataset

    @property
    def scored_split(self) -> Split:
        """The split whose tasks are scored: validation, and never the test split, by a trial of a search."""
        return "validation" if "trial" in self.tuning else "test"

    @property
    def data_text(self) -> str:
        """The data set in words, "omniglot-small → glyphs" where another is tested than trained on."""
        return f"{self.dataset} → {self.test_dataset}" if self.test_dataset else self.dataset.name

    @property
    def learned_splits(self) -> tuple[str, ...]:
        """The splits of its data set that training and selection took tasks from."""
        selects = self.train is not None and self.budget.steps and self.budget.validate_every
        return ("train", "validation") if selects else ("train",)

    @property
    def step_images(self) -> int:
        """How many images a training step sees, support and queries, over all ranks."""
        if isinstance(self.train, Protocol):
            return self.budget.tasks * self.train.ways * (self.train.shots + self.train.queries)
        return self.train.size if self.train is not None else 0

    @property
    def planned_steps(self) -> int:
        """How many steps training has, where nothing that is measured ends it: steps and images do."""
        steps, images = self.budget.steps, self.budget.images
        return min(steps, -(-images // self.step_images)) if images and self.step_images else steps

    @property
    def trains(self) -> bool:
        """Whether the cell has training steps at all; one that scores a kept state has none."""
        return self.train is not None and self.budget.steps > 0 and not self.scored

    @property
    def warmup_steps(self) -> int:
        """How many steps are blocks of their own, timed apart, at the start and after each resume."""
        return min(5, max(1, self.planned_steps // 20))

    @property
    def suite_folder(self) -> str:
        """The name of the folder of the suite's results: `quick-v1`."""
        return suite_folder(self.suite, self.suite_version)

    @property
    def id(self) -> str:
        """A readable and unique name, fit for a file: `maml-conv4-glyphs-5w1s-cpu-s0-1a2b3c4d5e`."""
        parts = [self.algorithm.name, self.network.name if self.network else "", self.dataset.name]
        parts += ["to", self.test_dataset.name] if self.test_dataset is not None else []
        ranks = self.backend.settings.get("ranks") or ""  # cpu has none, cpu-ranks shows even a single one
        parts += [self.test.short, f"{self.backend.name}{ranks}", f"s{self.seed}", self.digest[:10]]
        parts[-1:-1] = [f"t{self.tuning['trial']}"] if "trial" in self.tuning else []
        return "-".join(p for p in parts if p).replace("+", "p")

    def to_json(self) -> dict[str, Any]:
        """The cell as plain JSON values; `from_json` reads it back."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if self.train is not None:
            document["train"]["kind"] = "episodes" if isinstance(self.train, Protocol) else "batches"
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Cell":
        """The cell that `to_json` wrote; raises KeyError or TypeError on anything else."""
        train = document["train"]
        if train is not None:
            fields = {k: v for k, v in train.items() if k != "kind"}
            train = protocol_from_json(fields) if train["kind"] == "episodes" else Batches(**fields)
        evaluation = dict(document["evaluation"])
        evaluation["curve"] = tuple(evaluation["curve"])
        evaluation["metrics"] = tuple(map(Spec.from_json, evaluation["metrics"]))
        return cls(
            **{
                **document,
                "algorithm": Spec.from_json(document["algorithm"]),
                "network": _optional_spec(document["network"]),
                "dataset": Spec.from_json(document["dataset"]),
                "backend": Spec.from_json(document["backend"]),
                "test": protocol_from_json(document["test"]),
                "train": train,
                "budget": Budget(**document["budget"]),
                "evaluation": Evaluation(**evaluation),
                "expect": tuple(document["expect"]),
                "test_dataset": _optional_spec(document["test_dataset"]),
            }
        )


def _optional_spec(document: Mapping[str, Any] | None) -> Spec | None:
    return Spec.from_json(document) if document is not None else None


def suite_folder(name: str, version: int) -> str:
    """The name of the folder of a suite's results: `quick-v1`."""
    return f"{name}-v{version}"
