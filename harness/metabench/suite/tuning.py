"""Reads the table `tune` of a cell: how the settings of its algorithm are searched, and in which space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metabench.contracts import Algorithm
from metabench.errors import SettingError, did_you_mean
from metabench.plugins import Registry
from metabench.records.cell import Spec
from metabench.records.tuning import OPTUNA, SAMPLERS, SCALES, Tuning, size_of
from metabench.settings import Setting, complete, describe_settings, make, setting
from metabench.suite.mistakes import Mistakes
from metabench.suite.parts import Parts

MOST_TRIALS = 256

RATE_FACTOR = 10.0
"""A rate is searched from its value divided by this to its value times this, where no space is stated."""


@dataclass(frozen=True)
class Tune:
    """How the settings of a cell's algorithm are searched, on meta-validation alone.

    Trial 0 has the settings that the cell states; the others come from the space. The trial with the best
    validation score gives the row its settings.
    """

    trials: int = setting(
        0, "settings to try, those of the cell included; 0: no search", at_least=0, at_most=MOST_TRIALS
    )
    space: Any = setting(  # noqa: RUF009 - a table, which has no type of a setting
        None,
        'by setting: [low, high], [low, high, "log"] or {choices = […]}; by default that of the algorithm, '
        "or a tenth to ten times each of its rates",
    )
    sampler: str = setting("sobol", "how trials are drawn; tpe is Optuna's", choices=SAMPLERS)
    seed: int = setting(1001, "seed of the sampler and of the trials' training", at_least=0)
    patience: int = setting(
        0, "end a trial's training after this many validations without a new best score; 0: as the budget",
        at_least=0,
    )  # fmt: skip
    at_once: int = setting(4, "trials that tpe draws at a time, which may run side by side", at_least=1)


class TuneReader:
    """Reads the tables `tune` of one suite file."""

    def __init__(self, registry: Registry, mistakes: Mistakes) -> None:
        self.registry, self.mistakes = registry, mistakes

    def read(self, where: str, given: Any, seeds: Any, parts: Parts) -> dict[str, Any]:
        """Return the cell's field `tuning`: empty where nothing is searched, or `tune` has a mistake."""
        tune = self._record(where, given)
        if tune is None or not tune.trials or "algorithm" not in parts.specs or parts.budget is None:
            return {}
        spec = parts.specs["algorithm"]
        cls: type[Algorithm] = self.registry.find("algorithm", spec.name).cls
        stated = tune.space if tune.space is not None else cls.space
        space = self._space(f"{where}.space", stated, spec, cls) if stated is not None else rates(spec, cls)
        if not space:
            return {}
        self._check(where, tune, space, seeds, parts)
        return Tuning(
            space,
            {name: spec.settings[name] for name in space},
            tune.sampler,
            tune.seed,
            tune.trials,
            tune.patience,
            tune.at_once if tune.sampler in OPTUNA else 0,
        ).to_json()

    def _record(self, where: str, given: Any) -> Tune | None:
        names = [declared.name for declared in describe_settings(Tune)]
        table = self.mistakes.table(where, given, names)
        try:
            return make(Tune, {name: value for name, value in table.items() if name in names})
        except SettingError as error:
            self.mistakes.errors(where, error)
            return None

    def _check(self, where: str, tune: Tune, space: Mapping[str, Any], seeds: Any, parts: Parts) -> None:
        size, budget = size_of(space), parts.budget
        if tune.trials > size:
            self.mistakes.must(
                f"{where}.trials", f"be at most {size}, the settings of its space", tune.trials
            )
        if isinstance(seeds, list) and tune.seed in seeds:
            why = "a search must not train with the seeds that are scored"
            self.mistakes.must(f"{where}.seed", "be none of the seeds of the cell", tune.seed, why)
        if tune.patience and budget is not None and not budget.validate_every:
            self.mistakes.must(
                f"{where.removesuffix('.tune')}.budget.validate_every", "be ≥ 1", 0,
                "tune.patience counts validations",
            )  # fmt: skip

    def _space(
        self, where: str, stated: Any, spec: Spec, cls: type[Algorithm]
    ) -> dict[str, list[Any] | dict[str, Any]]:
        """Return a stated space, each axis in its full form; axes with a mistake are left out."""
        declared = {setting.name: setting for setting in describe_settings(cls)}
        space: dict[str, list[Any] | dict[str, Any]] = {}
        for name, axis in self.mistakes.table(where, stated).items():
            if name not in declared:
                known = did_you_mean(name, declared)
                self.mistakes.wrong(f"{where}: {spec.name!r} has no setting {name!r}; {known}")
                continue
            full = _full(declared[name], axis)
            if full is None:
                rule = 'be [low, high], [low, high, "log"] or {choices = […]}, with 0 < low < high for "log"'
                self.mistakes.must(f"{where}.{name}", rule, axis)
            elif self._fits(f"{where}.{name}", name, full, spec, cls):
                space[name] = full
        return space

    def _fits(self, where: str, name: str, axis: Any, spec: Spec, cls: type[Algorithm]) -> bool:
        """Return whether the ends or the choices of an axis are values that the setting may have."""
        try:
            for value in axis["choices"] if isinstance(axis, dict) else axis[:2]:
                complete(cls, {**spec.settings, name: value})
        except SettingError as error:
            self.mistakes.errors(where, error)
            return False
        return True


def rates(spec: Spec, cls: type[Algorithm]) -> dict[str, list[Any] | dict[str, Any]]:
    """Return the default space of an algorithm: each of its rates, log-uniform around the cell's value."""
    space: dict[str, list[Any] | dict[str, Any]] = {}
    for declared in describe_settings(cls):
        value = spec.settings[declared.name]
        named = declared.name == "rate" or declared.name.endswith("_rate")
        if named and isinstance(value, float) and value > 0:
            most = math.inf if declared.at_most is None else declared.at_most
            least = 0.0 if declared.at_least is None else declared.at_least
            low, high = max(value / RATE_FACTOR, least), min(value * RATE_FACTOR, most)
            space[declared.name] = [float(f"{low:.6g}"), float(f"{high:.6g}"), "log"]
    return space


def _full(declared: Setting, axis: Any) -> list[Any] | dict[str, Any] | None:
    """Return an axis in its full form, None where it has no form of an axis."""
    if isinstance(axis, Mapping):
        return _full_choices(declared, axis)
    if not isinstance(axis, (list, tuple)) or len(axis) not in (2, 3):
        return None
    low, high, scale = (*axis, "linear") if len(axis) == 2 else axis
    numbers = all(type(end) in (int, float) and math.isfinite(end) for end in (low, high))
    if scale not in SCALES or not numbers or not low < high or (scale == "log" and low <= 0):
        return None
    if declared.type is int:
        return [low, high, scale] if type(low) is type(high) is int else None
    return [float(low), float(high), scale] if declared.type is float else None


def _full_choices(declared: Setting, axis: Mapping[str, Any]) -> dict[str, Any] | None:
    choices = axis.get("choices")
    if set(axis) != {"choices"} or not isinstance(choices, (list, tuple)) or not choices:
        return None
    if not all(isinstance(choice, (str, int, float, bool)) for choice in choices):
        return None
    as_floats = [float(c) if declared.type is float and type(c) is int else c for c in choices]
    return {"choices": list(dict.fromkeys(as_floats))}
