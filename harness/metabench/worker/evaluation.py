"""Scores tasks with a trained learner; each rank scores its own slice, and every rank gets all scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metabench.contracts import Episodes, Metric
from metabench.data.manifests import task_classes
from metabench.data.order import draw_episodes, orders
from metabench.data.shapes import groups
from metabench.device.device import Device
from metabench.errors import Diverged
from metabench.records.cell import Split
from metabench.records.metric_scores import MetricScores, metric_slot, metric_title
from metabench.records.progress import EvaluateEvent
from metabench.records.result import Scores
from metabench.results.predictions import TaskPredictions
from metabench.scoring import Rows, metric_scores, score_all
from metabench.worker.cell_run import CellRun, manifest_digest, share

TRANSDUCTION_TASKS = 4
"""Test tasks on which the claim of transduction is checked."""


def evaluate(run: CellRun) -> Scores:
    """Score the cell's tasks, with the curve, the latency and the check of the transduction claim."""
    cell, wanted, device = run.cell, run.cell.evaluation, run.device
    split = cell.scored_split
    started = device.clock()
    if not cell.scored:  # what it computes is part of a state that was kept
        run.finish()
    scored = score_tasks(run, split, wanted.tasks, metrics=run.metrics, keep=wanted.predictions)
    if not np.isfinite(scored.per_task).all():
        raise Diverged(f"the score of a {split} task is not finite")
    run.predictions = scored.predictions
    curve = {
        str(steps): tuple(score_tasks(run, split, wanted.tasks, steps).per_task)
        for steps in wanted.curve
    }  # fmt: skip
    latency_seconds = _latency_seconds(run)
    depends_on_queries = _depends_on_queries(run)
    return Scores(
        metric=wanted.metric,
        unit=run.metric.unit,
        higher_is_better=run.metric.higher_is_better,
        per_task=tuple(scored.per_task),
        manifest=run.manifest or manifest_digest(run.source_of(split), split, cell.test, wanted),
        seconds=device.slowest(device.clock() - started),
        adapt_seconds=tuple(scored.adapt_seconds),
        adapt_tasks=tuple(scored.adapt_tasks),
        predict_seconds=scored.predict_seconds,
        latency_seconds=latency_seconds,
        curve=curve,
        transductive=run.learner.transductive,
        transductive_found=depends_on_queries,
        overlap=run.overlap,
        state=_scored_state(run),
        further=_further(run, scored),
        classes=task_classes(run.source_of(split), split, cell.test, wanted.tasks, wanted.seed),
    )


def _further(run: CellRun, scored: ScoredTasks) -> dict[str, MetricScores]:
    """What the further metrics of the cell give, by their titles."""
    cell = run.cell
    return {
        metric_title(spec): metric_scores(
            run.further[metric_title(spec)], spec, cell.plugins.get(metric_slot(spec), ""),
            scored.rows[metric_title(spec)],
        )
        for spec in cell.evaluation.metrics
    }  # fmt: skip


def _scored_state(run: CellRun) -> str:
    best_step = run.training.best_step
    if run.cell.scored:
        return "kept"
    return "last" if best_step is None else f"best validation, step {best_step}"


@dataclass
class ScoredTasks:
    """Scores in the order of the tasks; seconds per batch, and of predicting in all of them.

    rows: what each metric gives each task, by its title; predictions: of this rank's own tasks, if kept.
    """

    rows: dict[str, Rows] = field(default_factory=dict)
    adapt_seconds: list[float] = field(default_factory=list)
    adapt_tasks: list[float] = field(default_factory=list)
    predict_seconds: float = 0.0
    predictions: list[TaskPredictions] = field(default_factory=list)

    @property
    def per_task(self) -> list[float]:
        """The scores of the metric that selects and ranks, which is the first one."""
        return [score for (score,) in next(iter(self.rows.values()))]


def score_tasks(
    run: CellRun,
    split: Split,
    count: int,
    steps: int | None = None,
    metrics: Mapping[str, Metric] | None = None,
    keep: bool = False,
) -> ScoredTasks:
    """Score tasks 0 … count-1 of a split; steps: of adaptation, None for as many as the learner takes.

    metrics: by title, None for the first one alone; keep: the predictions too.
    """
    device, evaluation = run.device, run.cell.evaluation
    scoring = dict(metrics or {evaluation.metric: run.metric})
    mine, own = share(count, device), ScoredTasks({title: [] for title in scoring})
    for start in range(mine.start, mine.stop, evaluation.batch):
        numbers = range(start, min(start + evaluation.batch, mine.stop))
        _score_batch(run, split, numbers, steps, scoring, keep, own)
        if split == "test":
            run.emit(EvaluateEvent(numbers.stop - mine.start, len(mine)))
    return ScoredTasks(
        rows={title: _joined_rows(device, rows, count) for title, rows in own.rows.items()},
        adapt_seconds=_joined(device.gather(own.adapt_seconds)),
        adapt_tasks=_joined(device.gather(own.adapt_tasks)),
        predict_seconds=device.slowest(own.predict_seconds),
        predictions=own.predictions,
    )


def _score_batch(
    run: CellRun,
    split: Split,
    numbers: range,
    steps: int | None,
    metrics: Mapping[str, Metric],
    keep: bool,
    scored: ScoredTasks,
) -> None:
    """Add the scores and times of the tasks with these numbers to `scored`, and predictions to keep."""
    tasks: dict[int, _ScoredTask] = {}
    adapt_seconds = 0.0
    for of_shape, episodes in _batches(run, split, numbers):
        prediction, adapting, predicting = _predict(run, episodes, steps)
        target = episodes.query.y.cpu()
        rows = score_all(metrics, run.learner.outputs, prediction, target)
        kept = _as_predicted(run, split, of_shape, prediction, target) if keep else [None] * len(of_shape)
        for place, number in enumerate(of_shape):
            tasks[number] = _ScoredTask({title: of[place] for title, of in rows.items()}, kept[place])
        adapt_seconds += adapting
        scored.predict_seconds += predicting
    for number in numbers:
        for title, row in tasks[number].rows.items():
            scored.rows[title].append(row)
    scored.predictions += [task.kept for _, task in sorted(tasks.items()) if task.kept is not None]
    scored.adapt_seconds.append(adapt_seconds)
    scored.adapt_tasks.append(float(len(numbers)))


class _ScoredTask(NamedTuple):
    """What each metric gives one task, and its predictions where they are kept."""

    rows: Mapping[str, list[float]]
    kept: TaskPredictions | None


def _predict(run: CellRun, episodes: Episodes, steps: int | None) -> tuple[Tensor, float, float]:
    """Return predictions on the CPU, and the seconds of adapting and of predicting."""
    clock = run.device.clock
    with torch.no_grad():
        started = clock()
        state = run.learner.adapt(episodes.support, steps)
        adapted = clock()
        prediction = run.learner.predict(state, episodes.query.x)
        predicted = clock()
    return prediction.cpu(), adapted - started, predicted - adapted


def _as_predicted(
    run: CellRun, split: Split, numbers: Sequence[int], prediction: Tensor, target: Tensor
) -> list[TaskPredictions]:
    """The predictions of these tasks as they are stored: with the place of each query in the manifest."""
    seed = run.cell.evaluation.seed
    places = orders(split, numbers, seed, 1, prediction.shape[1]).query  # whatever the support's size
    exact = prediction.float() if prediction.dtype == torch.bfloat16 else prediction  # numpy has no bfloat16
    return [TaskPredictions(*task) for task in zip(exact.numpy(), target.numpy(), places, strict=True)]


def _batches(run: CellRun, split: Split, numbers: Sequence[int]) -> Iterator[tuple[Sequence[int], Episodes]]:
    """The test tasks of these numbers in batches of one shape each, with the numbers of each batch."""
    seed = run.cell.evaluation.seed
    source = run.source_of(split)
    for shape, of_shape in groups(source, split, run.cell.test, numbers, seed):
        yield of_shape, draw_episodes(source, split, shape, of_shape, seed)


def _joined_rows(device: Device, rows: Rows, count: int) -> Rows:
    """The rows of all ranks, in the order of the tasks."""
    flat = _joined(device.gather([value for row in rows for value in row]))
    width = len(flat) // count
    return [flat[first : first + width] for first in range(0, len(flat), width)]


def _joined(ranks: Sequence[Sequence[float]]) -> list[float]:
    return [value for rank in ranks for value in rank]


def _latency_seconds(run: CellRun) -> tuple[float, ...]:
    """Seconds to adapt to single tasks, one at a time, on this rank."""
    evaluation, seconds = run.cell.evaluation, []
    for number in range(evaluation.latency_tasks):
        ((_, episodes),) = _batches(run, run.cell.scored_split, [number])
        with torch.no_grad():
            started = run.device.clock()
            run.learner.adapt(episodes.support)
            seconds.append(run.device.clock() - started)
    return tuple(seconds)


def _depends_on_queries(run: CellRun) -> bool | None:
    """Whether a query's prediction changes with the other queries of its task: in reverse, or in parts.

    None where a batch has tasks of a single query, unless another batch shows that it does.
    """
    evaluation = run.cell.evaluation
    tasks = range(min(TRANSDUCTION_TASKS, evaluation.tasks))
    batches = _batches(run, run.cell.scored_split, tasks)
    answers = [_batch_depends_on_queries(run, episodes) for _, episodes in batches]
    return None if None in answers and not any(answers) else any(answers)


def _batch_depends_on_queries(run: CellRun, episodes: Episodes) -> bool | None:
    queries = episodes.query.x
    if queries.shape[1] < 2:
        return None
    with torch.no_grad():
        state = run.learner.adapt(episodes.support)
        together = run.learner.predict(state, queries)
        return any(
            _differ(together[:, chosen], run.learner.predict(state, queries[:, chosen]))
            for chosen in _query_subsets(queries.shape[1])
        )


def _query_subsets(queries: int) -> list[list[int]]:
    """Queries to predict together: all in reverse, and parts of at least two, which batch norm needs."""
    every = list(range(queries))
    half = queries // 2
    parts = [every[:half], every[half:]] if half > 1 else [every[:2] if queries > 2 else [0, 0]]
    return [every[::-1], *parts]


def _differ(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether predictions differ by more than rounding; equal where both are NaN, or the same infinity."""
    finite = first[first.isfinite()]
    scale = (float(finite.abs().max()) if finite.numel() else 0.0) or 1.0
    tolerance = 1e-3 if first.dtype in (torch.float32, torch.float64) else 3e-2
    return not torch.allclose(first, second, rtol=0.0, atol=tolerance * scale, equal_nan=True)
