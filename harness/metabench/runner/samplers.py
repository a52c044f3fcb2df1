"""Samplers: which settings the trials of a search have."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from metabench.errors import RequestError
from metabench.records.tuning import OPTUNA, Trial, Tuning, inside, rounded, size_of, value_at

if TYPE_CHECKING:
    import numpy as np
    import optuna
    from numpy.typing import NDArray

POINTS = 2**11
"""So many points a quasi-random search takes at most, those that repeat settings of a trial counted."""


def require_sampler(name: str) -> None:
    """Raise RequestError where a sampler's package is not installed."""
    if name in OPTUNA:
        try:
            import optuna  # noqa: F401
        except ImportError:
            raise RequestError(
                f"sampler {name!r} needs Optuna, which is not installed: pip install 'metabench[tune]'"
            ) from None


def draw_trials(tuning: Tuning, numbers: range, earlier: Sequence[Trial], higher: bool) -> list[Settings]:
    """Return the settings of the trials of one round, by number.

    earlier: all trials of earlier rounds, which Optuna's samplers learn from; higher: whether a higher score
    is better.
    """
    if tuning.sampler in OPTUNA:
        return _by_optuna(tuning, numbers, earlier, higher)
    return list(islice(_quasi_random(tuning), numbers.start, numbers.stop))


Settings = Mapping[str, Any]
"""The values of the settings that a search varies."""


def _quasi_random(tuning: Tuning) -> Iterator[Settings]:
    """Yield the settings of the trials in order, each once: trial 0, then points spread over the space."""
    yield tuning.base
    tried = [dict(tuning.base)]
    whole = size_of(tuning.space)
    for point in _points(tuning):
        settings = _settings_at(tuning, point)
        if settings in tried:
            continue
        tried.append(settings)
        yield settings
        if sum(_inside(tuning, other) for other in tried) >= whole:
            return


def _points(tuning: Tuning) -> Iterator[NDArray[np.float64]]:
    """Yield points of the unit cube, spread evenly and moved by a random shift (Cranley and Patterson 1976).

    The shift, not scipy's scrambling, makes them random: the same for every version of scipy.
    """
    import numpy as np
    from scipy.stats import qmc

    width = len(tuning.space)
    engines = {"sobol": qmc.Sobol, "halton": qmc.Halton}
    engine = engines[tuning.sampler](width, scramble=False)
    shift = np.random.default_rng(tuning.seed).random(width)
    yield from (engine.random(POINTS) + shift) % 1.0


def _settings_at(tuning: Tuning, point: Sequence[float] | NDArray[np.float64]) -> dict[str, Any]:
    return {
        name: value_at(axis, float(position))
        for (name, axis), position in zip(sorted(tuning.space.items()), point, strict=True)
    }


def _inside(tuning: Tuning, settings: Settings) -> bool:
    return all(inside(axis, settings[name]) for name, axis in tuning.space.items())


def _by_optuna(tuning: Tuning, numbers: range, earlier: Sequence[Trial], higher: bool) -> list[Settings]:
    """Return what Optuna suggests for one round, given the trials of all earlier ones."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            direction="maximize" if higher else "minimize", sampler=_optuna_sampler(tuning, numbers.start)
        )
        axes = {name: _distribution(axis) for name, axis in sorted(tuning.space.items())}
        for trial in earlier:
            _add_earlier(study, tuning, trial, axes)
        own = [tuning.base] if 0 in numbers else []
        suggested = [study.ask(axes).params for _ in numbers[len(own) :]]
    rounds = [{name: rounded(tuning.space[name], value) for name, value in p.items()} for p in suggested]
    return [*own, *rounds]


def _optuna_sampler(tuning: Tuning, first: int) -> optuna.samplers.BaseSampler:
    """Return a sampler whose RNG depends on the round, so that a search goes on where it was interrupted."""
    from optuna.samplers import TPESampler

    seed = tuning.seed + first
    return TPESampler(seed=seed, n_startup_trials=tuning.at_once, constant_liar=True)


def _add_earlier(
    study: optuna.Study,
    tuning: Tuning,
    trial: Trial,
    axes: Mapping[str, optuna.distributions.BaseDistribution],
) -> None:
    """Add a trial to the study, unless it has no score or lies outside the space, as trial 0 may."""
    import optuna

    if trial.score is not None and _inside(tuning, trial.settings):
        params = {name: trial.settings[name] for name in axes}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=dict(axes), value=trial.score))


def _distribution(axis: Sequence[Any] | Mapping[str, Any]) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(axis, Mapping):
        return CategoricalDistribution(axis["choices"])
    low, high, scale = axis
    kind = IntDistribution if isinstance(low, int) else FloatDistribution
    return kind(low, high, log=scale == "log")
