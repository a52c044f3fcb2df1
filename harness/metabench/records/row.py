"""One result as one flat row of plain JSON values, and a file that gave none.

The annotations below are the list of a row's fields: what is cached, which kinds of value are checked, and
what a summary over seeds takes over or averages. A new figure is an annotation here and its value in
`results.rows`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

Series = Literal["", "scaling", "weak-scaling", "throughput"]
"""What series over hardware or sizes a cell belongs to; "" for cells that a ranking shows."""


class CellFields(TypedDict):
    """What a cell states, but for its seed.

    `method`, `network`, `dataset` and `backend` name settings where these tell components of a suite apart;
    `…_name` is the plain name, `…_settings` the settings as JSON. The last six are keys that are equal for
    cells which differ in nothing but what stands beside them, and their seed.
    """

    suite: str
    version: int
    group: str
    series: Series
    method: str
    method_name: str
    algorithm: str
    algorithm_settings: str
    test_steps: int | None  # gradient steps that adapt to a test task; None where its settings do not say
    label: str
    network: str
    network_name: str
    network_settings: str
    dataset: str
    dataset_name: str
    dataset_settings: str
    ways: int
    shots: int
    queries: int
    task: str  # the test protocol in words
    train: str
    steps: int
    step_tasks: int
    step_images: int  # support and queries that a training step sees
    budget_images: int
    patience: int
    budget_seconds: float
    target: float | None
    backend: str
    backend_name: str
    backend_settings: str
    ranks: int
    threads: int | None
    evaluation_seed: int
    plugin: str
    configuration: str
    match: str  # plugins, and the settings that a search chose
    work: str  # backend
    weak_work: str  # backend, tasks of a step
    size_work: str  # ways and shots
    length_work: str  # how long it trains


class MachineFields(TypedDict):
    """Where a result was measured."""

    machine: str
    hardware: str
    device: str
    cores: int | None


class LearnerFields(TypedDict):
    """What was trained, by which code, and what its scores are.

    code: a short digest, "" if not recorded; contract: its version, 0 if not recorded.
    """

    path: str
    parameters: int
    code: str
    contract: int
    metric: str
    unit: str
    higher_is_better: bool
    manifest: str | None
    classes: str  # key of what the test tasks consist of, "" if not recorded
    state: str | None


class TuningFields(TypedDict):
    """The search that the settings of a cell were chosen by; None and empty where they were not searched.

    settings: the values that were chosen, as JSON; curve: the number of trials and the best validation score
    of so many.
    """

    tuning_trials: int | None
    tuning_chosen: int | None
    tuning_settings: str
    tuning_curve: list[list[float]]


class Shared(CellFields, MachineFields, LearnerFields, TuningFields):
    """What a summary takes over from its rows, which have it in common."""


class Averages(TypedDict):
    """Figures that a summary averages over its seeds; None where nothing was measured."""

    setup_seconds: float | None
    training_seconds: float | None
    validation_seconds: float | None
    evaluation_seconds: float | None
    adapt_seconds: float | None
    step_seconds: float | None
    tasks_per_second: float | None
    communication_share: float | None
    sampling_share: float | None
    latency_p50: float | None
    latency_p95: float | None
    tuning_seconds: float | None  # of all trials of a search
    wall_seconds: float | None


class Peaks(TypedDict):
    """Figures of which a summary takes the largest over its seeds."""

    memory_host: float | None
    memory_device: float | None


class SeedFields(TypedDict):
    """What a cell states beside its configuration."""

    seed: int
    evaluation_tasks: int
    expected: list[str]
    cell: str
    digest: str


class OutcomeFields(TypedDict):
    """How the cell ended, when, and made by what."""

    status: str
    reason: str
    log_tail: list[str]
    notes: list[str]
    python: str
    torch: str
    git: str
    date: str
    started: str
    command: str
    file: str
    withdrawn: str  # why and when it was withdrawn; "" where it was not


class TrainingFields(TypedDict):
    """How training went; `flat`: whether validation stopped moving."""

    trained_steps: int | None
    flat: bool | None
    validations: list[list[float]]  # step, seconds of training, mean score
    best_step: int | None
    target_step: int | None
    target_seconds: float | None
    ended_by: str
    resumed: int  # how often the cell went on from a checkpoint
    annealed: bool  # the learner's steps became (almost) zero
    loss: float | None


class MeasureFields(TypedDict):
    """Figures of one run that no mean over seeds is taken of as they are."""

    setup: dict[str, float]
    step_spread: float | None  # standard deviation over blocks
    blocks: int
    warmup_seconds: float | None
    unstable: bool | None
    energy: dict[str, float]
    training_energy: dict[str, float]
    target_energy: dict[str, float]
    cost: dict[str, float]


class FurtherFields(TypedDict):
    """What a further metric gives over the test tasks: its value and half of its 95 % interval.

    pooled: of all tasks together; rescored: when it was added from stored predictions, "" for by the run.
    """

    value: float | None
    half_width: float | None
    unit: str
    higher_is_better: bool
    pooled: bool
    rescored: str


class ScoreFields(TypedDict):
    """The scores over the test tasks; curve: mean score by number of adaptation steps.

    further: by the title of the metric (`ece`, `ece:bins=5`).
    """

    mean: float | None
    spread: float | None  # standard deviation over tasks
    half_width: float | None
    count: int
    transductive: bool | None
    transductive_found: bool | None
    overlap: str
    curve: dict[str, float]
    further: dict[str, FurtherFields]


class Row(Shared, Averages, Peaks, SeedFields, OutcomeFields, TrainingFields, MeasureFields, ScoreFields):
    """One result, flat."""


FIELDS = tuple(Row.__annotations__)
SHARED = tuple(Shared.__annotations__)
AVERAGES = tuple(Averages.__annotations__)
PEAKS = tuple(Peaks.__annotations__)


@dataclass(frozen=True)
class UnreadableFile:
    """A file that was passed over, and why."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"
