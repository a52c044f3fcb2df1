"""Reads the table of a suite file into cells, and collects every mistake in it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from metabench.contracts import Algorithm
from metabench.errors import did_you_mean
from metabench.plugins import Registry
from metabench.records.cell import COMPONENTS, NETWORK_WEIGHTS, Cell, Spec, Status
from metabench.suite.fit import FitChecker
from metabench.suite.mistakes import Mistakes
from metabench.suite.parts import Parts, PartsReader
from metabench.suite.tables import CELL_KEYS, SUITE_KEYS, TABLES, merged, put
from metabench.suite.tuning import TuneReader

DIGEST = re.compile(r"[0-9a-f]{64}")


class Reader:
    """Reads one suite file; `mistakes.listed` holds what is wrong."""

    def __init__(self, registry: Registry, path: Path) -> None:
        self.registry = registry
        self.mistakes = Mistakes(path)
        self.parts = PartsReader(registry, self.mistakes)
        self.fit = FitChecker(registry, self.mistakes)
        self.tune = TuneReader(registry, self.mistakes)

    def override(
        self,
        seeds: Sequence[int] | None,
        backend: Spec | Mapping[str, Any] | None,
        trials: int | None = None,
    ) -> dict[str, Any]:
        """The keys of a cell that the command line replaces; those with a mistake are left out."""
        table: dict[str, Any] = {}
        if seeds is not None and self._seeds("--seeds", list(seeds)):
            table["seeds"] = list(seeds)
        if backend is not None:
            given = {"name": backend.name, **backend.settings} if isinstance(backend, Spec) else dict(backend)
            before = self.mistakes.count
            self.parts.component("--backend", "backend", given, Parts())
            if self.mistakes.count == before:
                table["backend"] = given
        if trials is not None:
            table["tune"] = {"trials": trials}
        return table

    def cells(self, document: Mapping[str, Any], override: Mapping[str, Any]) -> tuple[Cell, ...]:
        """Return every cell of the suite in its order, without repetitions."""
        head = self._head(document)
        defaults = self.mistakes.table("defaults", document.get("defaults", {}), CELL_KEYS)
        entries = document.get("cells", [])
        if not isinstance(entries, list):
            self.mistakes.must(
                "cells", "be a list, written as [[cells]] before the keys of an entry", entries
            )
            entries = []
        elif not entries:
            self.mistakes.must("cells", "have an entry, written as [[cells]]", entries)
        cells = [
            cell
            for number, entry in enumerate(entries, 1)
            for cell in self._entry(f"cells[{number}]", entry, defaults, override, head)
        ]
        unique = {cell.digest: cell for cell in reversed(cells)}
        return tuple(cell for cell in cells if unique[cell.digest] is cell)

    def _head(self, document: Mapping[str, Any]) -> tuple[str, int]:
        self.mistakes.table("", document, SUITE_KEYS)
        name, version, minutes = document.get("name"), document.get("version"), document.get("minutes", 1)
        if name != self.mistakes.path.stem:
            self.mistakes.must("name", f"be that of the file, {self.mistakes.path.stem!r}", name)
        if type(version) is not int or version < 1:
            self.mistakes.must("version", "be an integer ≥ 1", version)
        if type(minutes) not in (int, float) or not 0 < minutes < math.inf:
            self.mistakes.must("minutes", "be a number > 0", minutes)
        earlier = document.get("earlier_texts", [])
        if not isinstance(earlier, list) or not all(DIGEST.fullmatch(str(text)) for text in earlier):
            self.mistakes.must("earlier_texts", "be a list of SHA-256 digests of suite files", earlier)
        return str(name), version if type(version) is int else 0

    def _entry(
        self, where: str, given: Any, defaults: Mapping[str, Any], override: Mapping[str, Any],
        head: tuple[str, int],
    ) -> Iterator[Cell]:  # fmt: skip
        entry = self.mistakes.table(where, given, (*CELL_KEYS, "sweep"))
        sweep = self.mistakes.table(f"{where}.sweep", entry.get("sweep", {}))
        own = {key: value for key, value in entry.items() if key != "sweep"}
        before, self.parts.train_used = self.mistakes.count, False
        for combination in self._combinations(where, sweep):
            table = merged(defaults, own)
            for key, value in combination:
                put(table, key, value)
            for key, value in override.items():
                put(table, key, value)
            seeds = table.get("seeds", [0])
            good = self._seeds(f"{where}.seeds", seeds)
            cell = self._cell(where, table, head)
            if cell is not None and good:
                yield from (replace(cell, seed=seed) for seed in self._seeds_of(cell, seeds))
        asked = {key.split(".")[0] for key in (*own, *sweep)}
        if "train" in asked and not self.parts.train_used and self.mistakes.count == before:
            self.mistakes.wrong(f"{where}.train has no effect: no algorithm of this entry trains on tasks")

    def _seeds_of(self, cell: Cell, seeds: Sequence[int]) -> Sequence[int]:
        """The seeds that a cell runs with: the first, where its algorithm gives the same for every seed."""
        algorithm: type[Algorithm] = self.registry.find("algorithm", cell.algorithm.name).cls
        return seeds[:1] if algorithm.deterministic else seeds

    def _combinations(self, where: str, sweep: Mapping[str, Any]) -> list[tuple[tuple[str, Any], ...]]:
        columns = []
        for key, values in sweep.items():
            first, dot, _ = key.partition(".")
            if first not in CELL_KEYS or key == "seeds":
                self.mistakes.unknown_key(f"{where}.sweep", key, CELL_KEYS)
            elif dot and first not in (*COMPONENTS, *TABLES):
                self.mistakes.wrong(
                    f"unknown key {key!r} in '{where}.sweep'; {first!r} has no keys of its own"
                )
            elif not isinstance(values, list) or not values:
                self.mistakes.must(f"{where}.sweep.{key}", "be a list of the values to try", values)
            else:
                columns.append([(key, value) for value in values])
        return list(itertools.product(*columns))

    def _cell(self, where: str, table: dict[str, Any], head: tuple[str, int]) -> Cell | None:
        before = self.mistakes.count
        parts = self.parts.read(where, table)
        tuning = self.tune.read(f"{where}.tune", table.get("tune", {}), table.get("seeds", [0]), parts)
        parts.searched = bool(tuning)
        group, label = (
            self.mistakes.text(f"{where}.{key}", table.get(key, "")) for key in ("group", "label")
        )
        expect = self._expect(f"{where}.expect", table.get("expect", []))
        self.fit.check(where, parts, has_network="network" in table)
        if parts.algorithm is not None and not parts.algorithm.needs_network:
            parts.specs.pop("network", None)  # a sweep over algorithms may name one for the others
            parts.plugins.pop("network", None)
            parts.weights = "" if parts.weights.startswith(NETWORK_WEIGHTS) else parts.weights
        if parts.evaluation is not None:
            parts.evaluation = self.fit.with_metric(where, parts.evaluation, parts)
        if (
            self.mistakes.count > before
            or parts.test is None
            or parts.budget is None
            or parts.evaluation is None
        ):
            return None
        return Cell(
            suite=head[0], suite_version=head[1], algorithm=parts.specs["algorithm"],
            network=parts.specs.get("network"), dataset=parts.specs["dataset"], test=parts.test,
            train=parts.train, budget=parts.budget, evaluation=parts.evaluation,
            backend=parts.specs["backend"], seed=0, plugins=parts.plugins, group=group or "accuracy",
            label=label, expect=expect, weights=parts.weights,
            test_dataset=parts.specs.get("test_dataset"), tuning=tuning,
        )  # fmt: skip

    def _seeds(self, where: str, seeds: Any) -> bool:
        good = isinstance(seeds, list) and bool(seeds) and all(type(s) is int and s >= 0 for s in seeds)
        if not good:
            self.mistakes.must(where, "be a list of integers ≥ 0", seeds)
        return good

    def _expect(self, where: str, statuses: Any) -> tuple[str, ...]:
        if not isinstance(statuses, list):
            self.mistakes.must(where, 'be a list of statuses, such as ["out-of-memory"]', statuses)
            return ()
        for status in statuses:
            if status not in list(Status):
                self.mistakes.wrong(
                    f"unknown status {status!r} in {where!r}; {did_you_mean(str(status), Status)}"
                )
        return tuple(statuses)
