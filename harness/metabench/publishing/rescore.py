"""Scores made anew from stored predictions: to add metrics to a result, or to check those that it has.

Loads torch and the plugins of metrics: `metabench verify` asks for it in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from metabench.contracts import Metric
from metabench.errors import RequestError, StoreError
from metabench.plugins import Registry
from metabench.records.cell import Cell, Spec
from metabench.records.files import read_result, write_json
from metabench.records.metric_scores import MetricScores, metric_title
from metabench.records.outputs import mismatch
from metabench.records.result import Result, Scores
from metabench.results.predictions import Predictions, predictions_beside, read_predictions

ROUNDING = 1e-5
"""Scores of the same predictions on other processors differ by less than this, relative to the score or 1."""


def rescore(registry: Registry, path: Path, specs: Sequence[Spec], date: str) -> Result:
    """Add metrics to the result in a file, from the predictions beside it; return the result as stored.

    The metric that ranks is made anew first, and must be what it was to the bit. A metric that the result has
    is left as it is. Raises StoreError or RequestError, naming the file, where nothing can be added.
    """
    result = read_result(path)
    scores, predictions = _stored(path, result)
    first = _rows(registry, Spec(result.cell.evaluation.metric), result.cell, predictions)
    remade = tuple(score for (score,) in first)
    if remade != scores.per_task:
        raise RequestError(
            f"{path}: its predictions give other scores of {scores.metric!r} than it has (by up to "
            f"{_difference(remade, scores.per_task):.1e}): nothing was added; was it measured with another "
            "version of the metric, or on another kind of processor?"
        )
    added = {
        metric_title(spec): _metric_scores(registry, path, spec, result.cell, predictions, date)
        for spec in specs
        if metric_title(spec) not in (scores.metric, *scores.further)
    }
    if added:
        result = replace(result, scores=replace(scores, further={**scores.further, **added}))
        write_json(path, result.to_json())
    return result


def deep_faults(registry: Registry, path: Path) -> Iterator[str]:
    """Yield what of a result's scores does not follow from the predictions beside it."""
    result = read_result(path)
    scores, predictions = _stored(path, result)
    rows = _rows(registry, Spec(scores.metric), result.cell, predictions)
    yield from _differing(scores.metric, [score for (score,) in rows], scores.per_task)
    for title, stored in scores.further.items():
        remade = _metric_scores(registry, path, stored.metric, result.cell, predictions, "")
        yield from _differing(title, remade.per_task, stored.per_task)
        if remade.pooled is not None and stored.pooled is not None:
            yield from _differing(f"{title} of all tasks", [remade.pooled], [stored.pooled])


def _stored(path: Path, result: Result) -> tuple[Scores, Predictions]:
    """Return a result's scores and predictions; raises StoreError or RequestError where it lacks them."""
    if result.scores is None or not result.predictions:
        raise RequestError(
            f"{path}: holds no predictions; `predictions = true` in a suite's evaluation keeps them"
        )
    predictions = read_predictions(predictions_beside(path), result.predictions)
    if predictions.cell != result.cell.digest or len(predictions.tasks) != len(result.scores.per_task):
        raise StoreError(f"{predictions_beside(path)}: the predictions of another cell")
    return result.scores, predictions


def _metric_scores(
    registry: Registry, path: Path, spec: Spec, cell: Cell, predictions: Predictions, date: str
) -> MetricScores:
    from metabench.scoring import metric_scores  # loads torch

    metric: Metric = registry.make("metric", spec)
    reason = mismatch(metric.name, metric.needs, cell.algorithm.name, predictions.outputs)
    if reason is not None:
        raise RequestError(f"{path}: {reason}")
    source = registry.find("metric", spec.name).source
    return metric_scores(metric, spec, source, _rows(registry, spec, cell, predictions), date)


def _rows(registry: Registry, spec: Spec, cell: Cell, predictions: Predictions) -> list[list[float]]:
    """Return what a metric gives each task, scored in batches of the cell's size as the run did."""
    import torch

    from metabench.scoring import score_rows

    metric: Metric = registry.make("metric", spec)
    rows = []
    for first, last in _batches(predictions, cell.evaluation.batch):
        tasks = predictions.tasks[first:last]
        prediction = torch.from_numpy(np.stack([task.prediction for task in tasks]))
        target = torch.from_numpy(np.stack([task.target for task in tasks]))
        rows += score_rows(metric, predictions.outputs, prediction, target)
    return rows


def _batches(predictions: Predictions, size: int) -> Iterator[tuple[int, int]]:
    """Yield spans of at most `size` tasks of one shape."""
    shapes = [task.prediction.shape for task in predictions.tasks]
    first = 0
    for i in range(1, len(shapes) + 1):
        if i == len(shapes) or shapes[i] != shapes[first] or i - first == size:
            yield first, i
            first = i


def _differing(title: str, remade: Sequence[float], stored: Sequence[float]) -> Iterator[str]:
    if len(remade) != len(stored) or not np.allclose(
        remade, stored, rtol=ROUNDING, atol=ROUNDING, equal_nan=True
    ):
        yield f"{title} does not follow from the predictions (differs by {_difference(remade, stored):.1e})"


def _difference(first: Sequence[float], second: Sequence[float]) -> float:
    if len(first) != len(second):
        return float("inf")
    return float(np.nanmax(np.abs(np.subtract(first, second)), initial=0.0))


def further_specs(registry: Registry, tables: Sequence[Mapping[str, object]]) -> list[Spec]:
    """Return metrics as a cell names them, from tables of a name and settings."""
    specs = []
    for table in tables:
        entry = registry.find("metric", str(table["name"]))
        specs.append(Spec.of(entry.cls, {key: value for key, value in table.items() if key != "name"}))
    return specs
