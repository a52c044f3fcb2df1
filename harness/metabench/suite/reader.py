"""Reads the table of a suite file into cells and gathers every mistake that it meets on the way."""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from metabench.contracts import Algorithm, Dataset
from metabench.errors import MetabenchError, RequestError, SettingError, UnknownComponent, did_you_mean
from metabench.plugins import Registry
from metabench.records.cell import (
    COMPONENTS,
    SPLITS,
    Batches,
    Budget,
    Cell,
    Evaluation,
    Facts,
    Protocol,
    Spec,
    Status,
)
from metabench.settings import complete, describe_settings, make

T = TypeVar("T")

TABLES = ("test", "train", "budget", "evaluation")
CELL_KEYS = (*COMPONENTS, *TABLES, "seeds", "group", "label", "expect")
SUITE_KEYS = ("name", "version", "title", "description", "minutes", "earlier_texts", "defaults", "cells")
DIGEST = re.compile(r"[0-9a-f]{64}")
DEFAULT_METRIC = {"classification": "accuracy", "regression": "mse"}


@dataclass
class _Parts:
    """What is known of one cell so far; None where it has a mistake."""

    specs: dict[str, Spec] = field(default_factory=dict)
    plugins: dict[str, str] = field(default_factory=dict)
    algorithm: Algorithm | None = None
    facts: Facts | None = None
    test: Protocol | None = None
    train: Protocol | Batches | None = None
    budget: Budget | None = None
    evaluation: Evaluation | None = None


class Reader:
    """Reads one suite file; `mistakes` holds what is wrong, in order and each once."""

    def __init__(self, registry: Registry, path: Path) -> None:
        self.registry = registry
        self.path = path
        self.mistakes: dict[str, None] = {}
        self.count = 0  # with repetitions: the same mistake can spoil several combinations
        self._facts: dict[str, Facts | None] = {}
        self._train_used = False

    def override(
        self, seeds: Sequence[int] | None, backend: Spec | Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """The keys of a cell that the command line replaces; those with a mistake are left out."""
        table: dict[str, Any] = {}
        if seeds is not None and self._seeds("--seeds", list(seeds)):
            table["seeds"] = list(seeds)
        if backend is not None:
            told = {"name": backend.name, **backend.settings} if isinstance(backend, Spec) else dict(backend)
            before = self.count
            self._component("--backend", "backend", told, _Parts())
            if self.count == before:
                table["backend"] = told
        return table

    def cells(self, told: Mapping[str, Any], override: Mapping[str, Any]) -> tuple[Cell, ...]:
        """Every cell of the suite in its order, each once."""
        head = self._head(told)
        defaults = self._table("defaults", told.get("defaults", {}), CELL_KEYS)
        entries = told.get("cells", [])
        if not isinstance(entries, list):
            self._wrong("cells", f"is {_short(entries)}; write [[cells]] before the keys of each entry")
            entries = []
        elif not entries:
            self._wrong("cells", "is empty: a suite has at least one [[cells]] entry")
        cells = [
            cell
            for number, entry in enumerate(entries, 1)
            for cell in self._entry(f"cells[{number}]", entry, defaults, override, head)
        ]
        unique = {cell.digest: cell for cell in reversed(cells)}
        return tuple(cell for cell in cells if unique[cell.digest] is cell)

    def _head(self, told: Mapping[str, Any]) -> tuple[str, int]:
        self._table("", told, SUITE_KEYS)
        name, version, minutes = told.get("name"), told.get("version"), told.get("minutes", 1)
        if name != self.path.stem:
            self._wrong("name", f"is {name!r}; a suite is named like its file, {self.path.stem!r}")
        if type(version) is not int or version < 1:
            self._wrong("version", f"is {version!r}; it is a whole number, 1 or more")
        if type(minutes) not in (int, float) or not 0 < minutes < math.inf:
            self._wrong("minutes", f"is {minutes!r}; it is a number above 0")
        earlier = told.get("earlier_texts", [])
        if not isinstance(earlier, list) or not all(DIGEST.fullmatch(str(text)) for text in earlier):
            self._wrong(
                "earlier_texts", f"is {earlier!r:.60}; it is a list of SHA-256 digests of suite files"
            )
        return str(name), version if type(version) is int else 0

    def _entry(
        self, where: str, told: Any, defaults: Mapping[str, Any], override: Mapping[str, Any],
        head: tuple[str, int],
    ) -> Iterator[Cell]:  # fmt: skip
        entry = self._table(where, told, (*CELL_KEYS, "sweep"))
        sweep = self._table(f"{where}.sweep", entry.get("sweep", {}))
        own = {key: value for key, value in entry.items() if key != "sweep"}
        before, self._train_used = self.count, False
        for combination in self._combinations(where, sweep):
            table = _merged(defaults, own)
            for key, value in combination:
                _put(table, key, value)
            table = {**table, **copy.deepcopy(dict(override))}
            seeds = table.get("seeds", [0])
            good = self._seeds(f"{where}.seeds", seeds)
            cell = self._cell(where, table, head)
            if cell is not None and good:
                yield from (replace(cell, seed=seed) for seed in seeds)
        asked = {key.split(".")[0] for key in (*own, *sweep)}
        if "train" in asked and not self._train_used and self.count == before:
            self._wrong(f"{where}.train", "has no effect: no algorithm of this entry trains on tasks")

    def _combinations(self, where: str, sweep: Mapping[str, Any]) -> list[tuple[tuple[str, Any], ...]]:
        columns = []
        for key, values in sweep.items():
            first, dot, _ = key.partition(".")
            if first not in CELL_KEYS or key == "seeds":
                self._wrong(f"{where}.sweep", f"{key!r} is no key of a cell; {did_you_mean(key, CELL_KEYS)}")
            elif dot and first not in (*COMPONENTS, *TABLES):
                self._wrong(f"{where}.sweep", f"{key!r} does not exist: {first!r} has no keys of its own")
            elif not isinstance(values, list) or not values:
                self._wrong(f"{where}.sweep.{key}", f"is {values!r}; a sweep lists the values to try")
            else:
                columns.append([(key, value) for value in values])
        return list(itertools.product(*columns))

    def _cell(self, where: str, table: dict[str, Any], head: tuple[str, int]) -> Cell | None:
        before = self.count
        parts = self._parts(where, table)
        group, label = (self._text(f"{where}.{key}", table.get(key, "")) for key in ("group", "label"))
        expect = self._expect(f"{where}.expect", table.get("expect", []))
        if parts.algorithm is not None:
            self._check_algorithm(where, parts.algorithm, "network" in table, parts.facts)
            if not parts.algorithm.needs_network:  # a sweep over algorithms may name one for the others
                parts.specs.pop("network", None)
                parts.plugins.pop("network", None)
        if parts.facts is not None:
            self._check_protocols(where, parts, parts.facts)
        if parts.evaluation is not None:
            parts.evaluation = self._with_metric(where, parts.evaluation, parts)
        if self.count > before or parts.test is None or parts.budget is None or parts.evaluation is None:
            return None
        return Cell(
            suite=head[0], suite_version=head[1], algorithm=parts.specs["algorithm"],
            network=parts.specs.get("network"), dataset=parts.specs["dataset"], test=parts.test,
            train=parts.train, budget=parts.budget, evaluation=parts.evaluation,
            backend=parts.specs["backend"], seed=0, plugins=parts.plugins, group=group or "accuracy",
            label=label, expect=expect,
        )  # fmt: skip

    def _parts(self, where: str, table: Mapping[str, Any]) -> _Parts:
        """Everything of a cell that can be read by itself."""
        parts = _Parts()
        told = {"backend": "cpu", **table}
        for kind in COMPONENTS:
            if kind in told:
                self._component(f"{where}.{kind}", kind, told[kind], parts)
            elif kind != "network":
                self._wrong(f"{where}.{kind}", f"is missing; {did_you_mean('', self.registry.names(kind))}")
        parts.test = self._record(f"{where}.test", Protocol, table.get("test", {}))
        parts.budget = self._record(f"{where}.budget", Budget, table.get("budget", {}))
        parts.evaluation = self._record(f"{where}.evaluation", Evaluation, table.get("evaluation", {}))
        parts.algorithm = self._made(f"{where}.algorithm", "algorithm", parts.specs)
        parts.facts = self._facts_of(where, parts.specs)
        if parts.facts is not None and parts.facts.content:
            self._pin(f"{where}.dataset", parts.specs, parts.facts.content)
        parts.train = self._train(f"{where}.train", parts, table.get("train", {}))
        return parts

    def _component(self, where: str, kind: str, told: Any, parts: _Parts) -> None:
        given = {"name": told} if isinstance(told, str) else told
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            self._wrong(where, f'is {told!r}; write a name, or {{name = "…", setting = …}}')
            return
        try:
            entry = self.registry.find(kind, given["name"])
            settings = complete(entry.cls, {k: v for k, v in given.items() if k != "name"})
        except RequestError as error:
            for line in str(error).splitlines():
                self._wrong(where, line)
            return
        parts.specs[kind] = Spec(entry.name, settings)
        parts.plugins[kind] = entry.source

    def _record(self, where: str, cls: type[T], told: Any) -> T | None:
        if not isinstance(told, Mapping):
            keys = ", ".join(one.name for one in describe_settings(cls))
            self._wrong(where, f"is {told!r}; it is a table with {keys}")
            return None
        try:
            return make(cls, told)
        except SettingError as error:
            for line in str(error).splitlines():
                self._wrong(where, line)
            return None

    def _train(self, where: str, parts: _Parts, told: Any) -> Protocol | Batches | None:
        """How the cell trains; its table is checked even where the algorithm is not known."""
        if parts.algorithm is None or parts.test is None or not isinstance(told, Mapping):
            any_protocol = {"ways": 1, "shots": 1, "queries": 1}
            self._record(where, Protocol, {**any_protocol, **told} if isinstance(told, Mapping) else told)
            return None
        train = parts.algorithm.train_protocol(parts.test)
        if isinstance(train, Protocol):
            self._train_used = True
            return self._record(where, Protocol, {**vars(train), **told}) if told else train
        if isinstance(train, Batches) and parts.budget is not None:
            size = parts.budget.tasks
            micro = min(train.micro, size)
            if size % micro:
                what = f"is {size}; {parts.algorithm.name!r} trains on micro-batches of {micro} examples"
                key = f"{where.removesuffix('.train')}.budget.tasks"
                self._wrong(key, f"{what}, so it is a multiple of {micro}")
            return replace(train, size=size, micro=micro)
        return None

    def _made(self, where: str, kind: str, specs: Mapping[str, Spec]) -> Any:
        if kind not in specs:
            return None
        try:
            return make(self.registry.find(kind, specs[kind].name).cls, specs[kind].settings)
        except MetabenchError as error:  # of a class that checks several settings together
            self._wrong(where, str(error))
            return None

    def _facts_of(self, where: str, specs: Mapping[str, Spec]) -> Facts | None:
        if "dataset" not in specs:
            return None
        spec = specs["dataset"]
        key = f"{spec.name}:{sorted(spec.settings.items(), key=str)}"
        if key not in self._facts:
            self._facts[key] = None
            dataset: Dataset | None = self._made(f"{where}.dataset", "dataset", specs)
            if dataset is not None:
                self._facts[key] = self._described(f"{where}.dataset", dataset)
        return self._facts[key]

    def _described(self, where: str, dataset: Dataset) -> Facts | None:
        try:
            return dataset.describe()
        except MetabenchError as error:
            if dataset.missing() is None:  # absent data is the runner's to report, once for all cells
                self._wrong(where, str(error))
        except Exception as error:  # a plugin's: the other mistakes are reported all the same
            self._wrong(where, f"describe() of {dataset.name!r} raised {type(error).__name__}: {error}")
        return None

    def _pin(self, where: str, specs: dict[str, Spec], content: str) -> None:
        """Makes the content of the user's own data a part of the cell: other data gives another cell."""
        spec = specs["dataset"]
        told = spec.settings.get("content")
        if told == "":
            specs["dataset"] = Spec(spec.name, {**spec.settings, "content": content})
        elif told is not None and told != content:
            self._wrong(where, f"the digest of its content here is {content}, not {told}: the data differs")

    def _check_algorithm(
        self, where: str, algorithm: Algorithm, has_network: bool, facts: Facts | None
    ) -> None:
        if facts is not None and facts.kind not in algorithm.kinds:
            kinds = " and ".join(sorted(algorithm.kinds))
            self._wrong(where, f"algorithm {algorithm.name!r} learns {kinds}; its data set is {facts.kind}")
        if algorithm.needs_network and not has_network:
            listed = did_you_mean("", self.registry.names("network"))
            self._wrong(f"{where}.network", f"is missing: algorithm {algorithm.name!r} needs one; {listed}")

    def _check_protocols(self, where: str, parts: _Parts, facts: Facts) -> None:
        if facts.kind == "regression":
            if parts.test is not None and parts.test.ways != 1:
                self._wrong(f"{where}.test.ways", f"is {parts.test.ways}; a regression task has 1")
            return
        wanted = {"test": parts.test}
        if isinstance(parts.train, Protocol) and parts.budget is not None and parts.budget.steps:
            wanted["train"] = parts.train
        if parts.budget is not None and parts.budget.steps and parts.budget.validate_every:
            wanted["validation"] = parts.test
        for split in SPLITS:
            protocol = wanted.get(split)
            if protocol is not None and facts.classes:  # there are none where the data is absent
                self._check_split(where, split, protocol, facts)

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

    def _with_metric(self, where: str, evaluation: Evaluation, parts: _Parts) -> Evaluation:
        facts = parts.facts
        name = evaluation.metric or (DEFAULT_METRIC[facts.kind] if facts is not None else "")
        if not name:
            return evaluation
        try:
            entry = self.registry.find("metric", name)
        except UnknownComponent as error:
            self._wrong(f"{where}.evaluation.metric", str(error))
            return evaluation
        if facts is not None and facts.kind not in entry.cls.kinds:
            kinds = " and ".join(sorted(entry.cls.kinds))
            self._wrong(f"{where}.evaluation.metric", f"{name!r} scores {kinds}; the data is {facts.kind}")
        parts.plugins["metric"] = entry.source
        return replace(evaluation, metric=name)

    def _seeds(self, where: str, told: Any) -> bool:
        good = isinstance(told, list) and bool(told) and all(type(s) is int and s >= 0 for s in told)
        if not good:
            self._wrong(where, f"is {told!r}; it is a list of whole numbers, 0 or more")
        return good

    def _expect(self, where: str, told: Any) -> tuple[str, ...]:
        if not isinstance(told, list):
            self._wrong(where, f'is {told!r}; it is a list of statuses, such as ["out-of-memory"]')
            return ()
        for status in told:
            if status not in list(Status):
                self._wrong(where, f"{status!r} is no status; {did_you_mean(str(status), Status)}")
        return tuple(told)

    def _text(self, where: str, told: Any) -> str:
        if not isinstance(told, str):
            self._wrong(where, f"is {told!r}; it is a text in quotes")
        return str(told)

    def _table(self, where: str, told: Any, allowed: Sequence[str] | None = None) -> Mapping[str, Any]:
        """`told` where it is a table, else an empty one; keys that are not allowed are mistakes."""
        if not isinstance(told, Mapping):
            self._wrong(where, f"is {_short(told)}; it is a table of keys and values")
            return {}
        for key in told:
            if allowed is not None and key not in allowed:
                inside = f"{where}.{key}" if where else key
                self._wrong(inside, f"is no key of a suite file; {did_you_mean(key, allowed)}")
        return told

    def _wrong(self, where: str, what: str) -> None:
        text = f"{where}: {what}"  # an option of the command line stands for itself
        self.mistakes[text if where.startswith("--") else f"{self.path}: {text}"] = None
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
    if isinstance(inner, str) and first in COMPONENTS:
        inner = {"name": inner}
    if isinstance(inner, Mapping):  # anything else is a mistake that is reported of the table itself
        table[first] = {**inner, rest: copy.deepcopy(value)}


def _short(told: Any) -> str:
    text = "a table" if isinstance(told, Mapping) else repr(told)
    return text if len(text) <= 60 else f"{text[:60]}…"
