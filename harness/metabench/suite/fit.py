"""Whether the parts of a cell fit together: its algorithm, network, data, protocols, budget and metrics."""

from __future__ import annotations

from dataclasses import replace

from metabench.contracts import Algorithm, Metric
from metabench.errors import UnknownComponent
from metabench.plugins import Registry
from metabench.records.cell import SPLITS, Budget, Evaluation, Facts
from metabench.records.crossing import crossing_problem
from metabench.records.outputs import kind_of, mismatch
from metabench.records.protocol import Protocol, VariedProtocol
from metabench.suite.mistakes import Mistakes
from metabench.suite.parts import Parts
from metabench.suite.protocols import as_written, has_ranges_of_ways

DEFAULT_METRIC = {"classification": "accuracy", "regression": "mse"}


class FitChecker:
    """Checks cells of one suite file, and adds what does not fit to its mistakes."""

    def __init__(self, registry: Registry, mistakes: Mistakes) -> None:
        self.registry, self.mistakes = registry, mistakes

    def check(self, where: str, parts: Parts, *, has_network: bool) -> None:
        """Check all parts of a cell but its metric; has_network: whether the suite names one."""
        if parts.budget is not None:
            self._check_budget(f"{where}.budget", parts.budget)
        if parts.algorithm is not None:
            self._check_algorithm(where, parts.algorithm, has_network, parts)
        if parts.facts is not None:
            self._check_crossing(f"{where}.test_dataset", parts, parts.facts)
            self._check_task_lists(where, parts, parts.facts)
            self._check_protocols(where, parts, parts.facts)

    def _check_algorithm(self, where: str, algorithm: Algorithm, has_network: bool, parts: Parts) -> None:
        facts = parts.facts
        if facts is not None and facts.kind not in algorithm.kinds:
            kinds = " and ".join(sorted(algorithm.kinds))
            need = f"algorithm {algorithm.name!r} needs a data set of {kinds}"
            self.mistakes.wrong(f"{where}: {need}, got one of {facts.kind}")
        for key, protocol in (("test", parts.test), ("train", parts.train)):
            if isinstance(protocol, Protocol) and has_ranges_of_ways(protocol) and not algorithm.any_ways:
                why = f"algorithm {algorithm.name!r} has a head of fixed size"
                self.mistakes.must(f"{where}.{key}.ways", "be one number", as_written(protocol)["ways"], why)
        if algorithm.needs_network and not has_network:
            self.mistakes.missing(
                f"{where}.network",
                self.registry.names("network"),
                f"algorithm {algorithm.name!r} needs a network",
            )

    def _check_budget(self, where: str, budget: Budget) -> None:
        if budget.patience and not budget.validate_every:
            self.mistakes.must(f"{where}.validate_every", "be ≥ 1", 0, "budget.patience counts validations")
        if budget.images and not budget.steps:
            self.mistakes.must(
                f"{where}.steps", "be ≥ 1", 0, "budget.images ends training before that many steps"
            )

    def _check_crossing(self, where: str, parts: Parts, facts: Facts) -> None:
        """Check that what is learned from the data set can be scored on the one that is tested."""
        if parts.test_facts is None or parts.test_facts is facts:
            return
        validates = parts.budget is not None and parts.budget.steps and parts.budget.validate_every
        problem = crossing_problem(facts, parts.test_facts, ("train", *(["validation"] if validates else [])))
        if problem is not None:
            self.mistakes.wrong(f"{where} {problem}")

    def _check_task_lists(self, where: str, parts: Parts, facts: Facts) -> None:
        """Check that no more tasks are asked for than an official list has."""
        budget, evaluation = parts.budget, parts.evaluation
        if budget is None or evaluation is None:
            return
        if budget.images and isinstance(parts.train, VariedProtocol):
            self.mistakes.wrong(
                f"{where}.budget.images needs training tasks of one shape, got ranges in 'train'"
            )
        asked = [(facts, "train", "budget.steps × budget.tasks", budget.steps * budget.tasks)]
        if not isinstance(parts.train, Protocol):
            asked = []
        if (budget.steps and budget.validate_every) or parts.searched:
            asked.append((facts, "validation", "budget.validation_tasks", budget.validation_tasks))
        for key in ("tasks", "latency_tasks"):
            asked.append((parts.test_facts or facts, "test", f"evaluation.{key}", getattr(evaluation, key)))
        for known, split, key, count in asked:
            most = known.tasks.get(split)
            if most is not None and count > most:
                self.mistakes.must(
                    f"{where}.{key}", f"be at most {most}, the official tasks of split {split!r}", count
                )

    def _check_protocols(self, where: str, parts: Parts, facts: Facts) -> None:
        if facts.kind == "regression":
            if parts.test is not None and parts.test.ways != 1:
                self.mistakes.must(f"{where}.test.ways", "be 1 for regression", parts.test.ways)
            return
        wanted = {"test": parts.test}
        if isinstance(parts.train, Protocol) and parts.budget is not None and parts.budget.steps:
            wanted["train"] = parts.train
        validates = parts.budget is not None and parts.budget.steps and parts.budget.validate_every
        if validates or parts.searched:
            wanted["validation"] = parts.test
        for split in SPLITS:
            protocol, own = wanted.get(split), parts.test_facts if split == "test" else facts
            if protocol is not None and own is not None and own.classes:  # none where the data is absent
                self._check_split(where, split, protocol, own)

    def _check_split(self, where: str, split: str, protocol: Protocol, facts: Facts) -> None:
        classes, images = facts.classes.get(split), facts.images.get(split, 0)
        key = f"{where}.{'train' if split == 'train' else 'test'}"
        if classes is None:
            self.mistakes.wrong(
                f"{key}: the data set has no split {split!r}; it has {', '.join(facts.classes)}"
            )
        elif classes and protocol.ways > classes:
            rule = f"be at most {classes}, the number of classes in split {split!r}"
            self.mistakes.must(f"{key}.ways", rule, protocol.ways)
        if images and protocol.shots + protocol.queries > images:
            rule = f"have shots + queries of at most {images}, the images of a class in split {split!r}"
            self.mistakes.wrong(f"{key} must {rule}, got {protocol.shots} + {protocol.queries}")

    def with_metric(self, where: str, evaluation: Evaluation, parts: Parts) -> Evaluation:
        """Return the evaluation with the metric that ranks, by default that of the data's kind."""
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
            self.mistakes.errors(key, error)
            return evaluation
        self._check_metric(key, entry.cls, parts)
        if entry.cls.pooled:
            rule = f"metric {name!r} scores all test tasks together, so it selects and ranks nothing"
            self.mistakes.wrong(f"{key}: {rule}: name one of single tasks first")
        parts.plugins["metric"] = entry.source
        return replace(evaluation, metric=name)

    def _check_metric(self, where: str, metric: type[Metric], parts: Parts) -> None:
        """Check that a metric can score the data set's kind and the algorithm's predictions."""
        facts, kind = parts.facts, kind_of(metric.needs)
        if facts is None:
            return
        if facts.kind != kind:
            self.mistakes.wrong(
                f"{where}: metric {metric.name!r} needs a data set of {kind}, got one of {facts.kind}"
            )
            return
        outputs = parts.algorithm.predicts(kind) if parts.algorithm is not None else None
        if outputs is not None and parts.algorithm is not None:
            reason = mismatch(metric.name, metric.needs, parts.algorithm.name, outputs)
            if reason is not None:
                self.mistakes.wrong(f"{where}: {reason}")
