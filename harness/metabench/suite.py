"""Suites: versioned TOML files, read into cells; every mistake in one is reported before anything runs.

name = "tiny"
version = 1

[defaults]                      # merged under every [[cells]] entry
test = {ways = 5, shots = 1, queries = 5}

[[cells]]
algorithm = {name = "maml", steps = 1}
network = "conv4"
dataset = "glyphs"

[cells.sweep]                   # every combination becomes a cell
"algorithm.first_order" = [true, false]
"""

from __future__ import annotations

import copy
import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from metabench.contracts import Algorithm, Dataset
from metabench.errors import MetabenchError, RequestError, SettingError, SuiteError, UnknownComponent, known
from metabench.plugins import Registry
from metabench.records import SPLITS, STATUSES, Batches, Budget, Cell, Evaluation, Facts, Protocol, Spec
from metabench.settings import explain, fill, make

T = TypeVar("T")

COMPONENTS = ("algorithm", "network", "dataset", "backend")
TABLES = ("test", "train", "budget", "evaluation")
CELL_KEYS = (*COMPONENTS, *TABLES, "seeds", "group", "label", "expect")
SUITE_KEYS = ("name", "version", "title", "description", "minutes", "defaults", "cells")
DEFAULT_METRIC = {"classification": "accuracy", "regression": "mse"}


@dataclass(frozen=True)
class Suite:
    """A suite file, checked, with the cells that it stands for.

    minutes: what its author says the whole suite takes, None where the file is silent.
    """

    name: str
    version: int
    title: str
    path: Path
    cells: tuple[Cell, ...]
    description: str = ""
    minutes: float | None = None

    @property
    def folder(self) -> str:
        """The name of the folder of its results: `quick-v1`."""
        return f"{self.name}-v{self.version}"


def read(
    registry: Registry,
    name: str,
    seeds: Sequence[int] | None = None,
    backend: Spec | Mapping[str, Any] | None = None,
) -> Suite:
    """The suite of this name or path; `seeds` and `backend` replace what the file says.

    Raises SuiteError with every mistake of the file at once.
    """
    path = find(registry, name)
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SuiteError([f"{path}: not a TOML file: {error}"]) from error
    except OSError as error:
        raise SuiteError([f"{path}: cannot be read: {error.strerror}"]) from error
    override: dict[str, Any] = {}
    if seeds is not None:
        override["seeds"] = list(seeds)
    if backend is not None:
        override["backend"] = dict(backend) if isinstance(backend, Mapping) else _as_table(backend)
    return _Reader(registry, path).suite(told, override)


def find(registry: Registry, name: str) -> Path:
    """The file of a suite: a path, or the name of one that a plugin brings."""
    if name.endswith(".toml") or "/" in name or "\\" in name:
        if not Path(name).is_file():
            raise RequestError(f"no suite file {name!r}; `metabench list suites` shows those installed")
        return Path(name)
    found = installed(registry)
    if name not in found:
        raise UnknownComponent(f"no suite is called {name!r}; {known(name, found)}, or give a path to a file")
    return found[name]


def installed(registry: Registry) -> dict[str, Path]:
    """Every suite that plugins bring: name (of the file) → file. Our own win over an outsider's."""
    folders = registry.suite_folders()
    files = [path for _, folder in folders for path in sorted(folder.glob("*.toml"))]
    return {path.stem: path for path in reversed(files)}


def _as_table(spec: Spec) -> dict[str, Any]:
    return {"name": spec.name, **spec.settings}


class _Reader:
    """Reads one suite file and gathers its mistakes on the way."""

    def __init__(self, registry: Registry, path: Path) -> None:
        self.registry = registry
        self.path = path
        self.mistakes: dict[str, None] = {}  # in order, each once
        self.count = 0  # with repetitions: the same mistake can spoil several combinations
        self._facts: dict[str, Facts | None] = {}

    def suite(self, told: Mapping[str, Any], override: Mapping[str, Any]) -> Suite:
        self._unknown("", told, SUITE_KEYS)
        name, version = told.get("name"), told.get("version")
        if name != self.path.stem:
            self._wrong("name", f"is {name!r}; a suite is named like its file, {self.path.stem!r}")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            self._wrong("version", f"is {version!r}; it is a whole number, 1 or more")
        minutes = told.get("minutes")
        if minutes is not None and (isinstance(minutes, bool) or not isinstance(minutes, (int, float))):
            self._wrong("minutes", f"is {minutes!r}; it is a number")
        defaults = told.get("defaults", {})
        self._unknown("defaults.", defaults, CELL_KEYS)
        head = (str(name), version if isinstance(version, int) else 0)
        cells = [
            cell
            for number, entry in enumerate(told.get("cells", []), 1)
            for cell in self._entry(f"cells[{number}]", entry, defaults, override, head)
        ]
        if not told.get("cells"):
            self._wrong("cells", "is empty: a suite has at least one [[cells]] entry")
        if self.mistakes:
            raise SuiteError(list(self.mistakes))
        unique = {cell.digest: cell for cell in reversed(cells)}
        ordered = tuple(c for c in cells if unique.get(c.digest) is c)
        title, description = str(told.get("title", "")), str(told.get("description", ""))
        return Suite(head[0], head[1], title, self.path, ordered, description, minutes)

    def _entry(
        self,
        where: str,
        entry: Mapping[str, Any],
        defaults: Mapping[str, Any],
        override: Mapping[str, Any],
        head: tuple[str, int],
    ) -> Iterator[Cell]:
        self._unknown(f"{where}.", entry, (*CELL_KEYS, "sweep"))
        sweep = entry.get("sweep", {})
        own = {key: value for key, value in entry.items() if key != "sweep"}
        for combination in self._combinations(where, sweep):
            table = _merged(defaults, own)
            for key, value in combination:
                _put(table, key, value)
            table = {**table, **copy.deepcopy(dict(override))}
            seeds = table.get("seeds", [0])
            if not isinstance(seeds, list) or not all(type(s) is int and s >= 0 for s in seeds) or not seeds:
                self._wrong(f"{where}.seeds", f"is {seeds!r}; it is a list of whole numbers, 0 or more")
                continue
            cell = self._cell(where, table, head)
            if cell is not None:
                yield from (replace(cell, seed=seed) for seed in seeds)

    def _combinations(self, where: str, sweep: Mapping[str, Any]) -> list[tuple[tuple[str, Any], ...]]:
        columns = []
        for key, values in sweep.items():
            if key.split(".")[0] not in CELL_KEYS or key == "seeds":
                self._wrong(f"{where}.sweep", f"{key!r} is no key of a cell; {known(key, CELL_KEYS)}")
            elif not isinstance(values, list) or not values:
                self._wrong(f"{where}.sweep.{key}", f"is {values!r}; a sweep lists the values to try")
            else:
                columns.append([(key, value) for value in values])
        return list(itertools.product(*columns))

    def _cell(self, where: str, table: dict[str, Any], head: tuple[str, int]) -> Cell | None:
        before = self.count
        table.setdefault("backend", "cpu")
        specs: dict[str, Spec] = {}
        plugins: dict[str, str] = {}
        for kind in COMPONENTS:
            if kind in table:
                self._component(f"{where}.{kind}", kind, table[kind], specs, plugins)
            elif kind != "network":
                self._wrong(f"{where}.{kind}", f"is missing; {known('', self.registry.names(kind))}")
        test = self._record(f"{where}.test", Protocol, table.get("test", {}))
        budget = self._record(f"{where}.budget", Budget, table.get("budget", {}))
        evaluation = self._record(f"{where}.evaluation", Evaluation, table.get("evaluation", {}))
        expect = table.get("expect", [])
        for status in expect if isinstance(expect, list) else [expect]:
            if status not in STATUSES:
                self._wrong(f"{where}.expect", f"{status!r} is no status; {known(str(status), STATUSES)}")
        if self.count > before or test is None or budget is None or evaluation is None:
            return None
        algorithm: Algorithm = make(self._cls("algorithm", specs), specs["algorithm"].settings)
        facts = self._facts_of(where, specs["dataset"])
        train = self._train(where, algorithm, test, budget, table.get("train"))
        if facts is not None:
            self._check_fit(where, algorithm, "network" in specs, facts, (test, train), budget)
            evaluation = self._with_metric(where, evaluation, facts, plugins)
        if not algorithm.needs_network and "network" in specs:
            del specs["network"], plugins["network"]  # a sweep over algorithms may name one for the others
        if self.count > before:
            return None
        return Cell(
            suite=head[0], suite_version=head[1], algorithm=specs["algorithm"], network=specs.get("network"),
            dataset=specs["dataset"], test=test, train=train, budget=budget, evaluation=evaluation,
            backend=specs["backend"], seed=0, plugins=plugins, group=str(table.get("group", "accuracy")),
            label=str(table.get("label", "")), expect=tuple(expect),
        )  # fmt: skip

    def _component(
        self, where: str, kind: str, told: Any, specs: dict[str, Spec], plugins: dict[str, str]
    ) -> None:
        given = {"name": told} if isinstance(told, str) else told
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            self._wrong(where, f'is {told!r}; write a name, or {{name = "…", setting = …}}')
            return
        try:
            entry = self.registry.find(kind, given["name"])
            settings = fill(entry.cls, {k: v for k, v in given.items() if k != "name"})
        except RequestError as error:
            for line in str(error).splitlines():
                self._wrong(where, line)
            return
        specs[kind] = Spec(entry.name, settings)
        plugins[kind] = entry.source

    def _record(self, where: str, cls: type[T], told: Any) -> T | None:
        if not isinstance(told, Mapping):
            keys = ", ".join(one.name for one in explain(cls))
            self._wrong(where, f"is {told!r}; it is a table with {keys}")
            return None
        try:
            return make(cls, told)
        except SettingError as error:
            for line in str(error).splitlines():
                self._wrong(where, line)
            return None

    def _train(
        self, where: str, algorithm: Algorithm, test: Protocol, budget: Budget, told: Any
    ) -> Protocol | Batches | None:
        train = algorithm.train_protocol(test)
        if isinstance(train, Batches):
            return replace(train, size=budget.tasks, micro=min(train.micro, budget.tasks))
        if isinstance(train, Protocol) and told is not None:
            return self._record(f"{where}.train", Protocol, {**vars(train), **told})
        return train

    def _cls(self, kind: str, specs: Mapping[str, Spec]) -> type[Any]:
        return self.registry.find(kind, specs[kind].name).cls

    def _facts_of(self, where: str, spec: Spec) -> Facts | None:
        key = f"{spec.name}:{sorted(spec.settings.items(), key=str)}"
        if key not in self._facts:
            dataset: Dataset = make(self.registry.find("dataset", spec.name).cls, spec.settings)
            self._facts[key] = None
            try:
                self._facts[key] = dataset.describe()
            except MetabenchError as error:
                if dataset.missing() is None:  # absent data is the runner's to report, once for all cells
                    self._wrong(f"{where}.dataset", str(error))
        return self._facts[key]

    def _check_fit(
        self,
        where: str,
        algorithm: Algorithm,
        has_network: bool,
        facts: Facts,
        protocols: tuple[Protocol, Protocol | Batches | None],
        budget: Budget,
    ) -> None:
        if facts.kind not in algorithm.kinds:
            kinds = " and ".join(sorted(algorithm.kinds))
            self._wrong(where, f"algorithm {algorithm.name!r} learns {kinds}; its data set is {facts.kind}")
        if algorithm.needs_network and not has_network:
            listed = known("", self.registry.names("network"))
            self._wrong(f"{where}.network", f"is missing: algorithm {algorithm.name!r} needs one; {listed}")
        test, train = protocols
        if facts.kind == "regression":
            if test.ways != 1:
                self._wrong(f"{where}.test.ways", f"is {test.ways}; a regression task has 1")
            return
        wanted = {"test": test}
        if isinstance(train, Protocol) and budget.steps:
            wanted["train"] = train
        if budget.steps and budget.validate_every:
            wanted["validation"] = test
        for split in SPLITS:
            if split in wanted:
                self._check_split(where, split, wanted[split], facts)

    def _check_split(self, where: str, split: str, protocol: Protocol, facts: Facts) -> None:
        classes, images = facts.classes.get(split), facts.images.get(split, 0)
        key = f"{where}.{'train' if split == 'train' else 'test'}"
        if classes is None:
            self._wrong(key, f"the data set has no split {split!r}; it has {', '.join(facts.classes)}")
        elif classes and protocol.ways > classes:
            self._wrong(f"{key}.ways", f"is {protocol.ways}; the split {split!r} has {classes} classes")
        if images and protocol.shots + protocol.queries > images:
            wanted = f"{protocol.shots} shots + {protocol.queries} queries"
            self._wrong(key, f"{wanted} are more than the {images} images of a class in split {split!r}")

    def _with_metric(
        self, where: str, evaluation: Evaluation, facts: Facts, plugins: dict[str, str]
    ) -> Evaluation:
        name = evaluation.metric or DEFAULT_METRIC[facts.kind]
        try:
            entry = self.registry.find("metric", name)
        except UnknownComponent as error:
            self._wrong(f"{where}.evaluation.metric", str(error))
            return evaluation
        if facts.kind not in entry.cls.kinds:
            kinds = " and ".join(sorted(entry.cls.kinds))
            self._wrong(f"{where}.evaluation.metric", f"{name!r} scores {kinds}; the data is {facts.kind}")
        plugins["metric"] = entry.source
        return replace(evaluation, metric=name)

    def _unknown(self, where: str, told: Any, allowed: Sequence[str]) -> None:
        if not isinstance(told, Mapping):
            self._wrong(where.rstrip("."), f"is {told!r}; it is a table")
            return
        for key in told:
            if key not in allowed:
                self._wrong(f"{where}{key}", f"is no key of a suite file; {known(key, allowed)}")

    def _wrong(self, where: str, what: str) -> None:
        self.mistakes[f"{self.path}: {where}: {what}"] = None
        self.count += 1


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` over `defaults`; the tables of protocols and budgets merge key by key."""
    table = copy.deepcopy(dict(defaults))
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(table.get(key), Mapping)
        table[key] = {**table[key], **value} if both and key in TABLES else copy.deepcopy(value)
    return table


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    """Puts `value` at a dotted key; a component that stands as a bare name becomes a table."""
    first, _, rest = key.partition(".")
    if not rest:
        both = isinstance(value, Mapping) and isinstance(table.get(first), Mapping) and first in TABLES
        table[first] = {**table[first], **value} if both else copy.deepcopy(value)
        return
    inner = table.get(first, {})
    inner = {"name": inner} if isinstance(inner, str) else dict(inner)
    inner[rest] = copy.deepcopy(value)
    table[first] = inner
