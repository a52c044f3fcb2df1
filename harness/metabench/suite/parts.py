"""Reads the parts of one cell: components, protocols, budget, evaluation, and the facts of its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from metabench.contracts import Algorithm, Dataset, Network
from metabench.errors import MetabenchError, RequestError, SettingError, StoreError
from metabench.folders import file_digest
from metabench.plugin_calls import describe_exception
from metabench.plugins import Registry
from metabench.records.cell import (
    COMPONENTS,
    NETWORK_WEIGHTS,
    Budget,
    Evaluation,
    Facts,
    Spec,
    component_kind,
)
from metabench.records.files import STATE_SUFFIX, read_result, state_path
from metabench.records.metric_scores import metric_slot, metric_title
from metabench.records.protocol import Batches, Protocol
from metabench.settings import describe_settings, make
from metabench.suite.mistakes import Mistakes
from metabench.suite.protocols import as_written, protocol_record, range_mistakes

T = TypeVar("T")


@dataclass
class Parts:
    """The parts of one cell that have been read; None where a part has a mistake.

    searched: whether a search scores settings on its validation tasks.
    """

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
    searched: bool = False


class PartsReader:
    """Reads the parts of cells of one suite file.

    weights: the files of learned states that cells start from, by their digest; train_used: whether a cell
    that was read since it was set to False trains on tasks.
    """

    def __init__(self, registry: Registry, mistakes: Mistakes) -> None:
        self.registry, self.mistakes = registry, mistakes
        self.weights: dict[str, Path] = {}
        self.train_used = False
        self._facts: dict[str, Facts | None] = {}

    def read(self, where: str, table: Mapping[str, Any]) -> Parts:
        """Everything of a cell that can be read by itself."""
        parts = Parts()
        given = {"backend": "cpu", **table}
        for kind in COMPONENTS:
            if kind in given and kind != "network":
                self.component(f"{where}.{kind}", kind, given[kind], parts)
            elif kind not in ("network", "test_dataset"):
                self.mistakes.missing(f"{where}.{kind}", self.registry.names(kind))
        if "weights" in table:
            self._weights(f"{where}.weights", table["weights"], parts)
        parts.test = self._protocol(f"{where}.test", table.get("test", {}))
        parts.budget = self._record(f"{where}.budget", Budget, table.get("budget", {}))
        parts.evaluation = self._evaluation(f"{where}.evaluation", table.get("evaluation", {}), parts)
        parts.algorithm = self._instance(f"{where}.algorithm", "algorithm", parts.specs)
        if parts.specs.get("test_dataset") == parts.specs.get("dataset"):
            parts.specs.pop("test_dataset", None)  # what is tested by default
            parts.plugins.pop("test_dataset", None)
        parts.facts = self._facts_of(where, "dataset", parts.specs)
        if "network" in given:  # its usual settings depend on the data's inputs
            self.component(f"{where}.network", "network", given["network"], parts)
        parts.test_facts = parts.facts
        if "test_dataset" in parts.specs:
            parts.test_facts = self._facts_of(where, "test_dataset", parts.specs)
        parts.train = self._train(f"{where}.train", parts, table.get("train", {}))
        return parts

    def component(self, where: str, kind: str, given: Any, parts: Parts) -> None:
        """Read a component into `parts`: a name, or a table with its settings."""
        table = {"name": given} if isinstance(given, str) else given
        if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
            self.mistakes.must(where, 'be a name, or {name = "…", setting = …}', given)
            return
        try:
            entry = self.registry.find(component_kind(kind), table["name"])
            given_settings = {k: v for k, v in table.items() if k != "name"}
            if kind in ("algorithm", "network") and "weights" not in setting_names(entry.cls):
                weights = given_settings.pop("weights", None)
                if weights is not None:
                    self._weights(f"{where}.weights", weights, parts, of_network=kind == "network")
            spec = Spec.of(entry.cls, {**self._usual(where, entry.cls, parts.facts), **given_settings})
        except RequestError as error:
            self.mistakes.errors(where, error)
            return
        parts.specs[kind] = spec
        parts.plugins[kind] = entry.source

    def _usual(self, where: str, component: type, facts: Facts | None) -> Mapping[str, Any]:
        """The settings that a network usually has for such data; none of another component."""
        if facts is None or not issubclass(component, Network):
            return {}
        try:
            return component.usual_settings(facts.input_shape)
        except Exception as error:  # a plugin's: the other mistakes are reported all the same
            raised = describe_exception(error)
            self.mistakes.wrong(f"{where}: usual_settings() of {component.name!r} raised {raised}")
            return {}

    def _weights(self, where: str, given: Any, parts: Parts, of_network: bool = False) -> None:
        """Take what the cell starts from: a file of safetensors, or a result whose state was kept."""
        if not isinstance(given, str) or not given:
            self.mistakes.must(
                where, "be the path of a safetensors file, or of a result with a kept state", given
            )
            return
        if parts.weights:
            self.mistakes.wrong(f"{where}: this cell starts from other weights already; name one file")
            return
        try:
            path = self._state_file(where, self.mistakes.path.parent / given)
            if path is not None and not path.is_file():
                self.mistakes.wrong(f"{where}: no such file: {path}")
            elif path is not None:
                digest = file_digest(path)
                self.weights[digest] = path
                parts.weights = NETWORK_WEIGHTS + digest if of_network else digest
        except (StoreError, OSError) as error:
            self.mistakes.wrong(f"{where}: {getattr(error, 'strerror', None) or error}: {given}")

    def _state_file(self, where: str, path: Path) -> Path | None:
        if path.suffix == STATE_SUFFIX:
            return path
        if path.suffix != ".json":
            self.mistakes.must(
                where, f"end in {STATE_SUFFIX} (no pickle is read), or in .json for a result", path.name
            )
            return None
        result = read_result(path)
        if not result.state:
            self.mistakes.wrong(f"{where}: the learned state of {path.name} was not kept")
            return None
        return state_path(path.parent, result.state)

    def _record(self, where: str, cls: type[T], given: Any) -> T | None:
        names = [setting.name for setting in describe_settings(cls)]
        if not isinstance(given, Mapping):
            self.mistakes.must(where, f"be a table with {', '.join(names)}", given)
            return None
        before = self.mistakes.count
        table = self.mistakes.table(where, given, names)
        try:
            record = make(cls, {key: value for key, value in table.items() if key in names})
        except SettingError as error:
            self.mistakes.errors(where, error)
            return None
        return record if self.mistakes.count == before else None

    def _protocol(self, where: str, given: Any) -> Protocol | None:
        for name, value in range_mistakes(given):
            self.mistakes.must(f"{where}.{name}", "be a range from the smaller number to the greater", value)
        return self._record(where, *protocol_record(given))

    def _train(self, where: str, parts: Parts, given: Any) -> Protocol | Batches | None:
        """How the cell trains; its table is checked even where the algorithm is not known."""
        if parts.algorithm is None or parts.test is None or not isinstance(given, Mapping):
            any_protocol = {"ways": 1, "shots": 1, "queries": 1}
            self._protocol(where, {**any_protocol, **given} if isinstance(given, Mapping) else given)
            return None
        train = parts.algorithm.train_protocol(parts.test)
        if isinstance(train, Protocol):
            self.train_used = True
            return self._protocol(where, {**as_written(train), **given}) if given else train
        if isinstance(train, Batches) and parts.budget is not None:
            size = parts.budget.tasks
            micro = min(train.micro, size)
            if size % micro:
                key = f"{where.removesuffix('.train')}.budget.tasks"
                why = f"algorithm {parts.algorithm.name!r} trains on micro-batches of that many examples"
                self.mistakes.must(key, f"be a multiple of {micro}", size, why)
            return replace(train, size=size, micro=micro)
        return None

    def _instance(self, where: str, kind: str, specs: Mapping[str, Spec]) -> Any:
        if kind not in specs:
            return None
        try:
            return self.registry.make(component_kind(kind), specs[kind])
        except MetabenchError as error:  # of a class that checks several settings together
            self.mistakes.errors(where, error)
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
                self.mistakes.errors(where, error)
        except Exception as error:  # a plugin's: the other mistakes are reported all the same
            self.mistakes.wrong(f"{where}: describe() of {dataset.name!r} raised {describe_exception(error)}")
        return None

    def _pin(self, where: str, part: str, specs: dict[str, Spec], content: str) -> None:
        """Makes the content of the user's own data a part of the cell: other data gives another cell."""
        spec = specs[part]
        wanted = spec.settings.get("content")
        if wanted == "":
            defaults = tuple(name for name in spec.defaults if name != "content")
            specs[part] = Spec(spec.name, {**spec.settings, "content": content}, defaults)
        elif wanted is not None and wanted != content:
            self.mistakes.must(f"{where}.content", f"be the digest of the data here, {content}", wanted)

    def _evaluation(self, where: str, given: Any, parts: Parts) -> Evaluation | None:
        """The evaluation; its list `metrics` begins with the metric that selects and ranks, or is absent."""
        if not isinstance(given, Mapping) or "metrics" not in given:
            return self._record(where, Evaluation, given)
        listed = given["metrics"]
        if not isinstance(listed, list) or not listed:
            self.mistakes.must(f"{where}.metrics", "be a list of metrics, of which the first ranks", listed)
            listed = [""]
        if "metric" in given:
            self.mistakes.wrong(
                f"{where} must have metric or metrics, got both: the first of metrics is the metric"
            )
        first, *further = listed
        if isinstance(first, Mapping) and set(first) == {"name"}:
            first = first["name"]
        if not isinstance(first, str):
            self.mistakes.must(
                f"{where}.metrics[1]", "be the name of a metric: the one that ranks has no settings", first
            )
            first = ""
        rest = {key: value for key, value in given.items() if key != "metrics"}
        evaluation = self._record(where, Evaluation, {**rest, "metric": first})
        specs = self._further_metrics(f"{where}.metrics", first, further, parts)
        return None if evaluation is None else replace(evaluation, metrics=specs)

    def _further_metrics(
        self, where: str, first: str, given: Sequence[Any], parts: Parts
    ) -> tuple[Spec, ...]:
        """The further metrics, each another one; their plugins are noted in `parts`."""
        specs: dict[str, Spec] = {}
        for number, metric in enumerate(given, 2):
            read = Parts()
            self.component(f"{where}[{number}]", "metric", metric, read)
            if "metric" not in read.specs:
                continue
            spec = read.specs["metric"]
            title = metric_title(spec)
            if title in (first, *specs):
                self.mistakes.wrong(f"{where}[{number}]: metric {title!r} is listed twice")
            specs[title] = spec
            parts.plugins[metric_slot(spec)] = read.plugins["metric"]
        return tuple(specs.values())


def setting_names(component: type) -> set[str]:
    """Return the names of a component's settings."""
    return {setting.name for setting in describe_settings(component)}
