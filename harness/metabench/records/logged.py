"""What loggers are given of a cell, by the names under which people find it: settings, curves, scores."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from metabench.records.cell import Cell
from metabench.records.progress import Event, TrainEvent, ValidationEvent
from metabench.records.result import Result, Training

Curves = Mapping[str, float]
"""What was measured after one training step, by name: `train/loss`, `validation/accuracy`."""


def logged_settings(cell: Cell) -> dict[str, str | int | float | bool]:
    """Return everything that defines a cell, flat: `algorithm.settings.inner_rate`.

    What is not set is left out; lists are JSON text.
    """
    return dict(_flat("", cell.to_json()))


def _flat(path: str, value: Any) -> Iterator[tuple[str, str | int | float | bool]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}" if path else name, inner)
    elif isinstance(value, list):
        if value:
            yield path, json.dumps(value)
    elif value is not None:
        yield path, value


def curves_of_event(cell: Cell, event: Event) -> tuple[int, Curves] | None:
    """Return the step of an event and what it measured; None for an event that measures nothing."""
    match event:
        case TrainEvent():
            return event.step, {"train/loss": event.loss, "train/tasks_per_second": event.tasks_per_second}
        case ValidationEvent():
            return event.step, _validation(cell, event.mean, event.half_width)
    return None


def curves_of_training(cell: Cell, training: Training) -> Iterator[tuple[int, Curves]]:
    """Yield the losses and validations that a result has, by step."""
    steps: dict[int, dict[str, float]] = {}
    for step, loss in training.losses:
        steps.setdefault(step, {})["train/loss"] = loss
    for validation in training.validations:
        steps.setdefault(validation.step, {}).update(
            _validation(cell, validation.mean, validation.half_width)
        )
    return ((step, steps[step]) for step in sorted(steps))


def _validation(cell: Cell, mean: float, half_width: float) -> Curves:
    return {f"validation/{cell.evaluation.metric}": mean, "validation/half_width": half_width}


def final_scores(result: Result) -> dict[str, float]:
    """Return every metric's mean over the test tasks (`test/accuracy`), `seconds/training`, `seconds/wall`.

    What was not measured, or is no finite number, is left out.
    """
    values: dict[str, float] = {"seconds/wall": result.wall_seconds}
    if result.training is not None:
        values["seconds/training"] = result.training.seconds
    if result.scores is not None:
        further = {title: scores.per_task for title, scores in result.scores.further.items()}
        for title, per_task in {result.scores.metric: result.scores.per_task, **further}.items():
            if per_task:
                values[f"test/{title}"] = fmean(per_task)
    return {name: value for name, value in values.items() if math.isfinite(value)}
