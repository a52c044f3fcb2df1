"""The contracts between the harness and its plugins: one small base class per kind of component.

A component is a frozen dataclass whose fields are its settings (`metabench.settings.setting`) and whose
docstring is its help. Nothing here imports torch; tensors appear in annotations only.

Axes: T tasks, n support examples of a task, q query examples of a task, `*input` one example's shape.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from metabench.presets import Preset
from metabench.records.cell import Cell, Facts, Split, Workload
from metabench.records.outputs import DataKind, Needs, Outputs
from metabench.records.protocol import Batches, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from metabench.device.device import Device
    from metabench.records.job import Job, Outcome
    from metabench.records.report_content import ReportContent
    from metabench.records.result import Result

CONTRACT_VERSION = 2
"""Raised when a change breaks older plugins; a plugin states the one it was made for, METABENCH_CONTRACT."""

DEPRECATED_CONTRACTS: Mapping[int, str] = {}
"""Older versions whose plugins still work for one release, with a warning: version → what to change."""


class Examples(NamedTuple):
    """Labelled examples: x [T, n, *input]; y [T, n] class numbers, or [T, n, outputs] regression targets."""

    x: Tensor
    y: Tensor


class Episodes(NamedTuple):
    """A batch of tasks. In classification y counts the task's own classes from 0 to ways - 1.

    support, query: Examples with leading axis T; classes: [T, ways] global class numbers of the split
    (empty second axis for regression); index: [T] the tasks' numbers.
    """

    support: Examples
    query: Examples
    classes: Tensor
    index: Tensor  # type: ignore[assignment]  # a tuple's own method of that name is never wanted here


@dataclass(frozen=True, kw_only=True)
class Component:
    """What every component has: a name, its settings (fields) and its help (docstring).

    imported: the settings that name code to import, as "module:name", in `build`, `load` or later. What a
    suite or a result names so is refused unless the person who runs it repeats it. presets: settings under
    names, such as those of its paper for each data set.
    """

    name: ClassVar[str]
    imported: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[Mapping[str, Preset]] = {}

    @classmethod
    def unavailable(cls) -> str | None:
        """None where the component can be used here, else the reason and the command that mends it."""
        return None


class Network(Component, ABC):
    """Builds a torch module for inputs and outputs of a given size."""

    @classmethod
    def usual_settings(cls, input_shape: tuple[int, ...]) -> Mapping[str, Any]:
        """The settings that a suite's cell has for such inputs where it gives none: no others, by default.

        For networks that the literature builds in different ways for small and for large images. The cell
        records them as if the suite had given them; a network that is made in Python has its defaults.
        """
        return {}

    @abstractmethod
    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """A module with `.features` (input → [batch, d]) and `.head` ([batch, d] → [batch, outputs]).

        input_shape: one example's shape; outputs: width of the head, None for a head that changes
        nothing. Raise `metabench.Invalid` with the reason where such inputs do not fit. Weights are drawn
        from torch's own generator, which the caller has seeded.
        """


class Learner(ABC):
    """An algorithm built for one workload, network and device: it learns over tasks and adapts to one.

    outputs: what `predict` returns: "log-probabilities", "logits", whose softmax is what the method means,
    "scores" that only rank the classes, or "values" in regression (see `metabench.records.outputs`);
    transductive: whether a query's prediction may depend on the other queries of its task;
    anneals: whether its steps become (almost) zero towards the end of training: any validation curve is flat
    there, so that flatness does not show that it was trained enough;
    path: the engine path taken, e.g. "batched", "vmap", "loop"; printed with every result.
    """

    outputs: Outputs = "scores"
    transductive: bool = False
    anneals: bool = False
    path: str = "batched"

    @abstractmethod
    def parameters(self) -> Sequence[Tensor]:
        """The tensors that training changes, in a fixed order; `learn` leaves their `.grad`."""

    @abstractmethod
    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Computes one meta-gradient: leaves in `.grad` the mean over the tasks given, returns losses [T].

        batch: Episodes, or for a `Batches` protocol Examples with micro-batches as the leading axis and
        y [micro-batches, micro] class numbers of meta-train. `.grad` is None or stale on entry and must
        be overwritten, never added to. The harness averages over ranks, then calls `update`.
        """

    @abstractmethod
    def update(self, step: int, total: int) -> None:
        """Takes one optimizer step from `.grad`; learning-rate schedules live here. step counts from 0."""

    @abstractmethod
    def adapt(self, support: Examples, steps: int | None = None) -> Any:
        """The adapted state of each task, from support sets alone; steps: inner steps, None for its own.

        Called outside autograd's recording or inside it; must work in both and leave no `.grad` behind.
        """

    @abstractmethod
    def predict(self, state: Any, query_x: Tensor) -> Tensor:
        """Predictions [T, q, outputs], of the type that `outputs` states, for query_x [T, q, *input]."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """The learned state, by name: all that `adapt` and `predict` need beyond `build` with this seed.

        What `finish` computed is part of it, what only training needs is not: another learner that loads it
        predicts the same without `finish`.
        """

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave, here or elsewhere; raises Invalid where it does not fit."""

    @abstractmethod
    def training_state(self) -> dict[str, Any]:
        """What training goes on from beside the learned state: the optimizer, its schedule, training heads.

        Tensors, numbers, texts, None, and lists, tuples and dictionaries of them.
        """

    @abstractmethod
    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `training_state` gave, after `load_state_dict`."""

    def finish(self, batches: Iterator[Examples]) -> None:  # noqa: B027 - most learners have nothing to do
        """Computes what is needed once before scoring; called before each validation and the final test.

        batches: endless micro-batches of meta-train, x [m, *input], y [m] class numbers, the same ones at
        each call and on every rank; of a source without labelled batches, the support sets of training tasks.
        """


class Algorithm(Component, ABC):
    """A way to learn over tasks: says how it trains, and builds the learner.

    kinds: the kinds of data set it can learn from; needs_network: False for learners without one; any_ways:
    whether its learner takes the ways of each batch from the batch, so that tasks may have different ones. A
    learner with a head of fixed size cannot, and suites with a range of ways are refused for it.
    deterministic: whether every seed gives the same, as where nothing is trained or drawn: suites then run it
    with their first seed alone. space: what a search varies (`tune` of a suite): by setting, (low, high),
    (low, high, "log") or {"choices": […]}; None: each of its rates, a tenth to ten times its value.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"classification"})
    needs_network: ClassVar[bool] = True
    any_ways: ClassVar[bool] = False
    deterministic: ClassVar[bool] = False
    space: ClassVar[Mapping[str, Any] | None] = None

    def train_protocol(self, test: Protocol) -> Protocol | Batches | None:
        """The protocol of meta-training for this test protocol; None where there is nothing to train.

        `Batches` asks for plain labelled examples; its size is replaced by the budget's `tasks`.
        """
        return test

    def predicts(self, kind: DataKind) -> Outputs | None:
        """What learners built with these settings output for data of this kind; None: only a learner says.

        Where it is stated, a suite that asks for a metric which cannot score it is refused when it is read.
        """
        return None

    @abstractmethod
    def build(self, workload: Workload, network: Network | None, device: Device) -> Learner:
        """The learner, its tensors on `device.torch` in `device.dtype`; raises `Invalid` or `Skip`."""


class ClassUnits(NamedTuple):
    """What an interval for new classes redraws: the unit and the group of each class of a split, by number.

    Classes that share their images, such as turns of a drawing, are one unit; groups are what classes come
    from (alphabets), without elements where nothing is known of them.
    """

    units: Sequence[int]
    groups: Sequence[int] = ()


class Source(ABC):
    """A loaded data set: draws tasks by number, the same ones on every machine."""

    @abstractmethod
    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        """The tasks of these numbers: a pure function of (data set, split, protocol, seed, number)."""

    def shape(self, split: Split, protocol: Protocol, index: int, seed: int) -> Protocol | None:
        """The shape of the task of this number where a protocol has ranges; pure.

        None: drawn from the protocol alone, by `metabench.data.shapes`. `episodes` and `manifest` are given
        the shape: where the classes of a task have different shots an `UnevenProtocol`; a source that cannot
        draw such tasks raises `Invalid`.
        """
        return None

    def batch(self, batches: Batches, indices: Sequence[int], seed: int) -> Examples:
        """Micro-batches of meta-train of these numbers: x [len(indices), micro, *input], y [.., micro]."""
        from metabench.errors import Invalid

        raise Invalid(f"{type(self).__name__} has no labelled batches: it cannot train a supervised learner")

    def class_units(self, split: Split) -> ClassUnits | None:
        """What an interval for new classes redraws; None: each class of the split by itself."""
        return None

    @abstractmethod
    def manifest(
        self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        """What each task is made of, without its tensors (class, support and query image numbers)."""


class Dataset(Component, ABC):
    """Tasks to learn from; its settings say which variant."""

    @abstractmethod
    def describe(self) -> Facts:
        """The facts, without torch and without loading the data."""

    def missing(self) -> str | None:
        """None where the data is at hand, else what is absent and the one command that brings it."""
        return None

    @abstractmethod
    def load(self, device: Device) -> Source:
        """The data on `device.torch`, inputs in `device.dtype`; raises DataError where it leaks."""


class Metric(Component, ABC):
    """Scores predictions against targets.

    needs: what `score` is given as prediction, which also says what kind of data it scores ("values":
    regression); see `metabench.records.outputs`. bounds: the least and the greatest score that it can give
    (of the unit "share" 0 and 1 at most); a run and `metabench verify` refuse scores beyond them. pooled: it
    scores all test tasks together, as calibration errors are: `score` then gives parts of each task, [T, k],
    whose sum over tasks `pool` turns into the score. A pooled metric ranks nothing: it is one of a cell's
    further metrics.
    """

    needs: ClassVar[Needs] = "scores"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    higher_is_better: ClassVar[bool] = True
    pooled: ClassVar[bool] = False

    @abstractmethod
    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One score per task, [T]; of a pooled metric, the parts of each task, [T, k].

        prediction: [T, q] class numbers where `needs` is "classes", else [T, q, outputs]; target: [T, q]
        class numbers, or [T, q, outputs] regression values.
        """

    def pool(self, parts: Tensor) -> Tensor:
        """The score of some tasks, [...], from the sum of their parts, [..., k] in float64; if pooled."""
        raise NotImplementedError(f"{type(self).__name__} is pooled, but has no method pool")


class Backend(Component, ABC):
    """Hardware and process layout inside a cell."""

    @property
    def world_size(self) -> int:
        """How many ranks the cell's tasks are shared out to."""
        return 1

    @property
    def gpus(self) -> int:
        """How many GPUs a cell needs on each machine, for batch systems."""
        return 0

    def available(self) -> str | None:
        """None where this hardware is here, else the reason why not; must not import torch for long."""
        return None

    def command(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """The command that runs `argv` (a python command line) on this backend, and extra environment."""
        return list(argv), {}

    @abstractmethod
    def open(self) -> Device:
        """Called in each rank of the worker: joins the ranks and gives the device."""


class Executor(Component, ABC):
    """Where cells are sent: this machine, a batch system, …

    remote: whether jobs wait for other machines; each then finds out there whether its hardware is present.
    """

    remote: ClassVar[bool] = False

    @abstractmethod
    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Runs every job and yields each outcome as it ends; must end its processes when it is closed.

        A job is prepared when it is taken from `jobs`: take it shortly before it starts.
        A job that exceeds `job.timeout` is ended with all of its processes and reported as timed out. However
        a job ends, none of its processes outlives it: a child left behind would disturb the next job's clock.
        """


class LoggedRun(ABC):
    """One cell in a logger, from its start to its end; its methods are called one at a time.

    They may be called from another thread than the one that opened it.
    """

    @property
    def link(self) -> str:
        """Where a person finds the run: a URL, or a path from the folder of the suite's results."""
        return ""

    @abstractmethod
    def curves(self, step: int, values: Mapping[str, float]) -> None:
        """Log what was measured after `step` steps, by name: `train/loss`, `validation/accuracy`."""

    @abstractmethod
    def close(self, result: Result | None) -> None:
        """Log how the cell ended; None where the run was interrupted, so that it has no result."""


class Logger(Component, ABC):
    """A place where people look at curves while cells train: a file, a server, …"""

    @abstractmethod
    def open(self, cell: Cell, folder: Path) -> LoggedRun:
        """Called in the parent process when a cell starts; several cells may be open at once.

        folder: of the suite's results, in which a logger of files writes below `logs`.
        `metabench.records.logged_settings` gives the cell's settings as a logger takes them.
        """


class Report(Component, ABC):
    """A rendering of results."""

    @abstractmethod
    def write(self, content: ReportContent, folder: Path) -> list[Path]:
        """Write the report into `folder` and return the files; every text in `content` is untrusted.

        `content.sections()` gives the tables that were chosen for it, in the chosen order.
        """
