"""Reads the table of a suite file into cells, and collects every mistake in it."""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from metabench.contracts import Algorithm, Dataset, Metric
from metabench.errors import (
    MetabenchError,
    RequestError,
    SettingError,
    StoreError,
    UnknownComponent,
    did_you_mean,
)
from metabench.folders import file_digest
from metabench.plugins import Registry, describe_exception
from metabench.records.cell import (
    COMPONENTS,
    NETWORK_WEIGHTS,
    SPLITS,
    Batches,
    Budget,
    Cell,
    Evaluation,
    Facts,
    Protocol,
    Spec,
    Status,
    VariedProtocol,
    component_kind,
)
from metabench.records.crossing import crossing_problem
from metabench.records.files import STATE_SUFFIX, read_result, state_path
from metabench.records.metric_scores import metric_slot, metric_title
from metabench.records.outputs import kind_of, mismatch
from metabench.settings import describe_settings, make
from metabench.suite.protocols import as_written, has_ranges_of_ways, protocol_record, range_mistakes

T = TypeVar("T")

TABLES = ("test", "train", "budget", "evaluation")
CELL_KEYS = (*COMPONENTS, *TABLES, "seeds", "group", "label", "expect", "weights")
SUITE_KEYS = ("name", "version", "title", "description", "minutes", "earlier_texts", "defaults", "cells")
DIGEST = re.compile(r"[0-9a-f]{64}")
DEFAULT_METRIC = {"classification": "accuracy", "regression": "mse"}


@dataclass
class _Parts:
    """The parts of one cell that have been read; None where a part has a mistake."""

    specs: dict[str, Spec] = field(default_factory=dict)
    plugins: dict[str, str] = field(default_factory=dict)
    algorithm: Algorithm | None = None
    facts: Facts | None = None
    test_facts: Facts | None = None
    test: Protocol | None = None
    train: Protocol | Batches | None = None
    budget: Budget | None = None
    evaluation: Evaluation | None = None
    weights: str = ""


class Reader:
    """Reads one suite file; `mistakes` holds what is wrong, in order and without repetitions."""

    def __init__(self, registry: Registry, path: Path) -> None:
        self.registry = registry
        self.path = path
        self.mistakes: dict[str, None] = {}
        self.count = 0  # with repetitions: the same mistake can spoil several combinations
        self._facts: dict[str, Facts | None] = {}
        self._train_used = False
        self.weights: dict[str, Path] = {}

    def override(
        self, seeds: Sequence[int] | None, backend: Spec | Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """The keys of a cell that the command line replaces; those with a mistake are left out."""
        table: dict[str, Any] = {}
        if seeds is not None and self._seeds("--seeds", list(seeds)):
            table["seeds"] = list(seeds)
        if backend is not None:
            given = {"name": backend.name, **backend.settings} if isinstance(backend, Spec) else dict(backend)
            before = self.count
            self._component("--backend", "backend", given, _Parts())
            if self.count == before:
                table["backend"] = given
        return table

    def cells(self, document: Mapping[str, Any], override: Mapping[str, Any]) -> tuple[Cell, ...]:
        """Return every cell of the suite in its order, without repetitions."""
        head = self._head(document)
        defaults = self._table("defaults", document.get("defaults", {}), CELL_KEYS)
        entries = document.get("cells", [])
        if not isinstance(entries, list):
            self._must("cells", "be a list, written as [[cells]] before the keys of an entry", entries)
            entries = []
        elif not entries:
            self._must("cells", "have an entry, written as [[cells]]", entries)
        cells = [
            cell
            for number, entry in enumerate(entries, 1)
            for cell in self._entry(f"cells[{number}]", entry, defaults, override, head)
        ]
        unique = {cell.digest: cell for cell in reversed(cells)}
        return tuple(cell for cell in cells if unique[cell.digest] is cell)

    def _head(self, document: Mapping[str, Any]) -> tuple[str, int]:
        self._table("", document, SUITE_KEYS)
        name, version, minutes = document.get("name"), document.get("version"), document.get("minutes", 1)
        if name != self.path.stem:
            self._must("name", f"be that of the file, {self.path.stem!r}", name)
        if type(version) is not int or version < 1:
            self._must("version", "be an integer ≥ 1", version)
        if type(minutes) not in (int, float) or not 0 < minutes < math.inf:
            self._must("minutes", "be a number > 0", minutes)
        earlier = document.get("earlier_texts", [])
        if not isinstance(earlier, list) or not all(DIGEST.fullmatch(str(text)) for text in earlier):
            self._must("earlier_texts", "be a list of SHA-256 digests of suite files", earlier)
        return str(name), version if type(version) is int else 0

    def _entry(
        self, where: str, given: Any, defaults: Mapping[str, Any], override: Mapping[str, Any],
        head: tuple[str, int],
    ) -> Iterator[Cell]:  # fmt: skip
        entry = self._table(where, given, (*CELL_KEYS, "sweep"))
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
                yield from (replace(cell, seed=seed) for seed in self._seeds_of(cell, seeds))
        asked = {key.split(".")[0] for key in (*own, *sweep)}
        if "train" in asked and not self._train_used and self.count == before:
            self._wrong(f"{where}.train has no effect: no algorithm of this entry trains on tasks")

    def _seeds_of(self, cell: Cell, seeds: Sequence[int]) -> Sequence[int]:
        """The seeds that a cell runs with: the first, where its algorithm gives the same for every seed."""
        algorithm: type[Algorithm] = self.registry.find("algorithm", cell.algorithm.name).cls
        return seeds[:1] if algorithm.deterministic else seeds

    def _combinations(self, where: str, sweep: Mapping[str, Any]) -> list[tuple[tuple[str, Any], ...]]:
        columns = []
        for key, values in sweep.items():
            first, dot, _ = key.partition(".")
            if first not in CELL_KEYS or key == "seeds":
                self._unknown_key(f"{where}.sweep", key, CELL_KEYS)
            elif dot and first not in (*COMPONENTS, *TABLES):
                self._wrong(f"unknown key {key!r} in '{where}.sweep'; {first!r} has no keys of its own")
            elif not isinstance(values, list) or not values:
                self._must(f"{where}.sweep.{key}", "be a list of the values to try", values)
            else:
                columns.append([(key, value) for value in values])
        return list(itertools.product(*columns))

    def _cell(self, where: str, table: dict[str, Any], head: tuple[str, int]) -> Cell | None:
        before = self.count
        parts = self._parts(where, table)
        group, label = (self._text(f"{where}.{key}", table.get(key, "")) for key in ("group", "label"))
        expect = self._expect(f"{where}.expect", table.get("expect", []))
        if parts.algorithm is not None:
            self._check_algorithm(where, parts.algorithm, "network" in table, parts)
            if not parts.algorithm.needs_network:  # a sweep over algorithms may name one for the others
                parts.specs.pop("network", None)
                parts.plugins.pop("network", None)
        if parts.facts is not None:
            self._check_crossing(f"{where}.test_dataset", parts, parts.facts)
            self._check_task_lists(where, parts, parts.facts)
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
            label=label, expect=expect, weights=parts.weights,
            test_dataset=parts.specs.get("test_dataset"),
        )  # fmt: skip

    def _parts(self, where: str, table: Mapping[str, Any]) -> _Parts:
        """Everything of a cell that can be read by itself."""
        parts = _Parts()
        given = {"backend": "cpu", **table}
        for kind in COMPONENTS:
            if kind in given:
                self._component(f"{where}.{kind}", kind, given[kind], parts)
            elif kind not in ("network", "test_dataset"):
                self._missing(f"{where}.{kind}", kind)
        if "weights" in table:
            self._weights(f"{where}.weights", table["weights"], parts)
        parts.test = self._protocol(f"{where}.test", table.get("test", {}))
        parts.budget = self._record(f"{where}.budget", Budget, table.get("budget", {}))
        if parts.budget is not None:
            self._check_budget(f"{where}.budget", parts.budget)
        parts.evaluation = self._evaluation(f"{where}.evaluation", table.get("evaluation", {}), parts)
        parts.algorithm = self._instance(f"{where}.algorithm", "algorithm", parts.specs)
        if parts.specs.get("test_dataset") == parts.specs.get("dataset"):
            parts.specs.pop("test_dataset", None)  # what is tested by default
            parts.plugins.pop("test_dataset", None)
        parts.facts = self._facts_of(where, "dataset", parts.specs)
        parts.test_facts = parts.facts
        if "test_dataset" in parts.specs:
            parts.test_facts = self._facts_of(where, "test_dataset", parts.specs)
        parts.train = self._train(f"{where}.train", parts, table.get("train", {}))
        return parts

    def _component(self, where: str, kind: str, given: Any, parts: _Parts) -> None:
        table = {"name": given} if isinstance(given, str) else given
        if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
            self._must(where, 'be a name, or {name = "…", setting = …}', given)
            return
        try:
            entry = self.registry.find(component_kind(kind), table["name"])
            given_settings = {k: v for k, v in table.items() if k != "name"}
            if kind in ("algorithm", "network") and "weights" not in setting_names(entry.cls):
                weights = given_settings.pop("weights", None)
                if weights is not None:
                    self._weights(f"{where}.weights", weights, parts, of_network=kind == "network")
            spec = Spec.of(entry.cls, given_settings)
        except RequestError as error:
            self._errors(where, error)
            return
        parts.specs[kind] = spec
        parts.plugins[kind] = entry.source

    def _weights(self, where: str, given: Any, parts: _Parts, of_network: bool = False) -> None:
        """Take what the cell starts from: a file of safetensors, or a result whose state was kept."""
        if not isinstance(given, str) or not given:
            self._must(where, "be the path of a safetensors file, or of a result with a kept state", given)
            return
        if parts.weights:
            self._wrong(f"{where}: this cell starts from other weights already; name one file")
            return
        try:
            path = self._state_file(where, self.path.parent / given)
            if path is not None and not path.is_file():
                self._wrong(f"{where}: no such file: {path}")
            elif path is not None:
                digest = file_digest(path)
                self.weights[digest] = path
                parts.weights = NETWORK_WEIGHTS + digest if of_network else digest
        except (StoreError, OSError) as error:
            self._wrong(f"{where}: {getattr(error, 'strerror', None) or error}: {given}")

    def _state_file(self, where: str, path: Path) -> Path | None:
        if path.suffix == STATE_SUFFIX:
            return path
        if path.suffix != ".json":
            self._must(
                where, f"end in {STATE_SUFFIX} (no pickle is read), or in .json for a result", path.name
            )
            return None
        result = read_result(path)
        if not result.state:
            self._wrong(f"{where}: the learned state of {path.name} was not kept")
            return None
        return state_path(path.parent, result.state)

    def _record(self, where: str, cls: type[T], given: Any) -> T | None:
        names = [setting.name for setting in describe_settings(cls)]
        if not isinstance(given, Mapping):
            self._must(where, f"be a table with {', '.join(names)}", given)
            return None
        before = self.count
        table = self._table(where, given, names)
        try:
            record = make(cls, {key: value for key, value in table.items() if key in names})
        except SettingError as error:
            self._errors(where, error)
            return None
        return record if self.count == before else None

    def _protocol(self, where: str, given: Any) -> Protocol | None:
        for name, value in range_mistakes(given):
            self._must(f"{where}.{name}", "be a range from the smaller number to the greater", value)
        return self._record(where, *protocol_record(given))

    def _train(self, where: str, parts: _Parts, given: Any) -> Protocol | Batches | None:
        """How the cell trains; its table is checked even where the algorithm is not known."""
        if parts.algorithm is None or parts.test is None or not isinstance(given, Mapping):
            any_protocol = {"ways": 1, "shots": 1, "queries": 1}
            self._protocol(where, {**any_protocol, **given} if isinstance(given, Mapping) else given)
            return None
        train = parts.algorithm.train_protocol(parts.test)
        if isinstance(train, Protocol):
            self._train_used = True
            return self._protocol(where, {**as_written(train), **given}) if given else train
        if isinstance(train, Batches) and parts.budget is not None:
            size = parts.budget.tasks
            micro = min(train.micro, size)
            if size % micro:
                key = f"{where.removesuffix('.train')}.budget.tasks"
                why = f"algorithm {parts.algorithm.name!r} trains on micro-batches of that many examples"
                self._must(key, f"be a multiple of {micro}", size, why)
            return replace(train, size=size, micro=micro)
        return None

    def _instance(self, where: str, kind: str, specs: Mapping[str, Spec]) -> Any:
        if kind not in specs:
            return None
        try:
            return self.registry.make(component_kind(kind), specs[kind])
        except MetabenchError as error:  # of a class that checks several settings together
            self._errors(where, error)
            return None

    def _facts_of(self, where: str, part: str, specs: dict[str, Spec]) -> Facts | None:
        """The facts of a data set, whose own files' digest becomes one of its settings."""
        if part not in specs:
            return None
        spec = specs[part]
        key = f"{spec.name}:{sorted(spec.settings.items(), key=str)}"
        if key not in self._facts:
            self._facts[key] = None
            dataset: Dataset | None = self._instance(f"{where}.{part}", part, specs)
            if dataset is not None:
                self._facts[key] = self._described(f"{where}.{part}", dataset)
        facts = self._facts[key]
        if facts is not None and facts.content:
            self._pin(f"{where}.{part}", part, specs, facts.content)
        return facts

    def _described(self, where: str, dataset: Dataset) -> Facts | None:
        try:
            return dataset.describe()
        except MetabenchError as error:
            if dataset.missing() is None:  # absent data is the runner's to report, once for all cells
                self._errors(where, error)
        except Exception as error:  # a plugin's: the other mistakes are reported all the same
            self._wrong(f"{where}: describe() of {dataset.name!r} raised {describe_exception(error)}")
        return None

    def _pin(self, where: str, part: str, specs: dict[str, Spec], content: str) -> None:
        """Makes the content of the user's own data a part of the cell: other data gives another cell."""
        spec = specs[part]
        wanted = spec.settings.get("content")
        if wanted == "":
            defaults = tuple(name for name in spec.defaults if name != "content")
            specs[part] = Spec(spec.name, {**spec.settings, "content": content}, defaults)
        elif wanted is not None and wanted != content:
            self._must(f"{where}.content", f"be the digest of the data here, {content}", wanted)

    def _check_algorithm(self, where: str, algorithm: Algorithm, has_network: bool, parts: _Parts) -> None:
        facts = parts.facts
        if facts is not None and facts.kind not in algorithm.kinds:
            kinds = " and ".join(sorted(algorithm.kinds))
            need = f"algorithm {algorithm.name!r} needs a data set of {kinds}"
            self._wrong(f"{where}: {need}, got one of {facts.kind}")
        for key, protocol in (("test", parts.test), ("train", parts.train)):
            if isinstance(protocol, Protocol) and has_ranges_of_ways(protocol) and not algorithm.any_ways:
                why = f"algorithm {algorithm.name!r} has a head of fixed size"
                self._must(f"{where}.{key}.ways", "be one number", as_written(protocol)["ways"], why)
        if algorithm.needs_network and not has_network:
            self._missing(f"{where}.network", "network", f"algorithm {algorithm.name!r} needs a network")

    def _check_budget(self, where: str, budget: Budget) -> None:
        if budget.patience and not budget.validate_every:
            self._must(f"{where}.validate_every", "be ≥ 1", 0, "budget.patience counts validations")
        if budget.images and not budget.steps:
            self._must(f"{where}.steps", "be ≥ 1", 0, "budget.images ends training before that many steps")

    def _check_crossing(self, where: str, parts: _Parts, facts: Facts) -> None:
        """Check that what is learned from the data set can be scored on the one that is tested."""
        if parts.test_facts is None or parts.test_facts is facts:
            return
        validates = parts.budget is not None and parts.budget.steps and parts.budget.validate_every
        problem = crossing_problem(facts, parts.test_facts, ("train", *(["validation"] if validates else [])))
        if problem is not None:
            self._wrong(f"{where} {problem}")

    def _check_task_lists(self, where: str, parts: _Parts, facts: Facts) -> None:
        """Check that no more tasks are asked for than an official list has."""
        budget, evaluation = parts.budget, parts.evaluation
        if budget is None or evaluation is None:
            return
        if budget.images and isinstance(parts.train, VariedProtocol):
            self._wrong(f"{where}.budget.images needs training tasks of one shape, got ranges in 'train'")
        asked = [(facts, "train", "budget.steps × budget.tasks", budget.steps * budget.tasks)]
        if not isinstance(parts.train, Protocol):
            asked = []
        if budget.steps and budget.validate_every:
            asked.append((facts, "validation", "budget.validation_tasks", budget.validation_tasks))
        for key in ("tasks", "latency_tasks"):
            asked.append((parts.test_facts or facts, "test", f"evaluation.{key}", getattr(evaluation, key)))
        for known, split, key, count in asked:
            most = known.tasks.get(split)
            if most is not None and count > most:
                self._must(
                    f"{where}.{key}", f"be at most {most}, the official tasks of split {split!r}", count
                )

    def _check_protocols(self, where: str, parts: _Parts, facts: Facts) -> None:
        if facts.kind == "regression":
            if parts.test is not None and parts.test.ways != 1:
                self._must(f"{where}.test.ways", "be 1 for regression", parts.test.ways)
            return
        wanted = {"test": parts.test}
        if isinstance(parts.train, Protocol) and parts.budget is not None and parts.budget.steps:
            wanted["train"] = parts.train
        if parts.budget is not None and parts.budget.steps and parts.budget.validate_every:
            wanted["validation"] = parts.test
        for split in SPLITS:
            protocol, own = wanted.get(split), parts.test_facts if split == "test" else facts
            if protocol is not None and own is not None and own.classes:  # none where the data is absent
                self._check_split(where, split, protocol, own)

    def _check_split(self, where: str, split: str, protocol: Protocol, facts: Facts) -> None:
        classes, images = facts.classes.get(split), facts.images.get(split, 0)
        key = f"{where}.{'train' if split == 'train' else 'test'}"
        if classes is None:
            self._wrong(f"{key}: the data set has no split {split!r}; it has {', '.join(facts.classes)}")
        elif classes and protocol.ways > classes:
            rule = f"be at most {classes}, the number of classes in split {split!r}"
            self._must(f"{key}.ways", rule, protocol.ways)
        if images and protocol.shots + protocol.queries > images:
            rule = f"have shots + queries of at most {images}, the images of a class in split {split!r}"
            self._wrong(f"{key} must {rule}, got {protocol.shots} + {protocol.queries}")

    def _evaluation(self, where: str, given: Any, parts: _Parts) -> Evaluation | None:
        """The evaluation; its list `metrics` begins with the metric that selects and ranks, or is absent."""
        if not isinstance(given, Mapping) or "metrics" not in given:
            return self._record(where, Evaluation, given)
        listed = given["metrics"]
        if not isinstance(listed, list) or not listed:
            self._must(f"{where}.metrics", "be a list of metrics, of which the first ranks", listed)
            listed = [""]
        if "metric" in given:
            self._wrong(f"{where} must have metric or metrics, got both: the first of metrics is the metric")
        first, *further = listed
        if isinstance(first, Mapping) and set(first) == {"name"}:
            first = first["name"]
        if not isinstance(first, str):
            self._must(
                f"{where}.metrics[1]", "be the name of a metric: the one that ranks has no settings", first
            )
            first = ""
        rest = {key: value for key, value in given.items() if key != "metrics"}
        evaluation = self._record(where, Evaluation, {**rest, "metric": first})
        specs = self._further_metrics(f"{where}.metrics", first, further, parts)
        return None if evaluation is None else replace(evaluation, metrics=specs)

    def _further_metrics(
        self, where: str, first: str, given: Sequence[Any], parts: _Parts
    ) -> tuple[Spec, ...]:
        """The further metrics, each another one; their plugins are noted in `parts`."""
        specs: dict[str, Spec] = {}
        for number, metric in enumerate(given, 2):
            read = _Parts()
            self._component(f"{where}[{number}]", "metric", metric, read)
            if "metric" not in read.specs:
                continue
            spec = read.specs["metric"]
            title = metric_title(spec)
            if title in (first, *specs):
                self._wrong(f"{where}[{number}]: metric {title!r} is listed twice")
            specs[title] = spec
            parts.plugins[metric_slot(spec)] = read.plugins["metric"]
        return tuple(specs.values())

    def _with_metric(self, where: str, evaluation: Evaluation, parts: _Parts) -> Evaluation:
        facts = parts.facts
        for spec in evaluation.metrics:
            cls = self.registry.find("metric", spec.name).cls
            self._check_metric(f"{where}.evaluation.metrics", cls, parts)
        name = evaluation.metric or (DEFAULT_METRIC[facts.kind] if facts is not None else "")
        if not name:
            return evaluation
        key = f"{where}.evaluation.{'metrics' if evaluation.metrics else 'metric'}"
        try:
            entry = self.registry.find("metric", name)
        except UnknownComponent as error:
            self._errors(key, error)
            return evaluation
        self._check_metric(key, entry.cls, parts)
        if entry.cls.pooled:
            rule = f"metric {name!r} scores all test tasks together, so it selects and ranks nothing"
            self._wrong(f"{key}: {rule}: name one of single tasks first")
        parts.plugins["metric"] = entry.source
        return replace(evaluation, metric=name)

    def _check_metric(self, where: str, metric: type[Metric], parts: _Parts) -> None:
        """Check that a metric can score the data set's kind and the algorithm's predictions."""
        facts, kind = parts.facts, kind_of(metric.needs)
        if facts is None:
            return
        if facts.kind != kind:
            self._wrong(
                f"{where}: metric {metric.name!r} needs a data set of {kind}, got one of {facts.kind}"
            )
            return
        outputs = parts.algorithm.predicts(kind) if parts.algorithm is not None else None
        if outputs is not None and parts.algorithm is not None:
            reason = mismatch(metric.name, metric.needs, parts.algorithm.name, outputs)
            if reason is not None:
                self._wrong(f"{where}: {reason}")

    def _seeds(self, where: str, seeds: Any) -> bool:
        good = isinstance(seeds, list) and bool(seeds) and all(type(s) is int and s >= 0 for s in seeds)
        if not good:
            self._must(where, "be a list of integers ≥ 0", seeds)
        return good

    def _expect(self, where: str, statuses: Any) -> tuple[str, ...]:
        if not isinstance(statuses, list):
            self._must(where, 'be a list of statuses, such as ["out-of-memory"]', statuses)
            return ()
        for status in statuses:
            if status not in list(Status):
                self._wrong(f"unknown status {status!r} in {where!r}; {did_you_mean(str(status), Status)}")
        return tuple(statuses)

    def _text(self, where: str, text: Any) -> str:
        if not isinstance(text, str):
            self._must(where, "be a text in quotes", text)
        return str(text)

    def _table(self, where: str, given: Any, allowed: Sequence[str] | None = None) -> Mapping[str, Any]:
        """`given` where it is a table, else an empty one; keys that are not allowed are mistakes."""
        if not isinstance(given, Mapping):
            self._must(where, "be a table of keys and values", given)
            return {}
        for key in given:
            if allowed is not None and key not in allowed:
                self._unknown_key(where, key, allowed)
        return given

    def _unknown_key(self, where: str, key: str, allowed: Sequence[str]) -> None:
        inside = f" in {where!r}" if where else ""
        self._wrong(f"unknown key {key!r}{inside}; {did_you_mean(key, allowed)}")

    def _missing(self, where: str, kind: str, why: str = "") -> None:
        because = f" ({why})" if why else ""
        self._wrong(f"{where} is missing{because}; {did_you_mean('', self.registry.names(kind))}")

    def _must(self, where: str, rule: str, given: Any, why: str = "") -> None:
        because = f" ({why})" if why else ""
        self._wrong(f"{where} must {rule}{because}, got {_short(given)}")

    def _errors(self, where: str, error: MetabenchError) -> None:
        for line in str(error).splitlines():
            self._wrong(f"{where}: {line}")

    def _wrong(self, text: str) -> None:
        """Add a mistake, which begins with the file; an option of the command line needs none."""
        self.mistakes[text if text.startswith("--") else f"{self.path}: {text}"] = None
        self.count += 1


def setting_names(component: type) -> set[str]:
    """Return the names of a component's settings."""
    return {setting.name for setting in describe_settings(component)}


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` over `defaults`; the tables of protocols and budgets merge key by key."""
    table = copy.deepcopy(dict(defaults))
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(table.get(key), Mapping)
        table[key] = {**table[key], **value} if both and key in TABLES else copy.deepcopy(value)
    return table


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    """Puts `value` at a dotted key; a component that is only a name becomes a table."""
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


def _short(given: Any) -> str:
    text = "a table" if isinstance(given, Mapping) else repr(given)
    return text if len(text) <= 60 else f"{text[:60]}…"
