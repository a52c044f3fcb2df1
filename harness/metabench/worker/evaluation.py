"""Scores tasks with a trained learner; each rank scores its own slice, and every rank gets all scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from metabench.contracts import Episodes, Source
from metabench.data.manifests import drawn_digest
from metabench.data.order import draw_episodes
from metabench.data.shapes import groups
from metabench.errors import Diverged
from metabench.learning.outputs import as_needed
from metabench.records.cell import Evaluation, Protocol, Split
from metabench.records.progress import EvaluateEvent
from metabench.records.result import Scores
from metabench.worker.cell_run import CellRun, share

TRANSDUCTION_TASKS = 4
"""Test tasks on which the claim of transduction is checked."""


def evaluate(run: CellRun) -> Scores:
    """Score the test tasks, with the curve, the latency and the check of the transduction claim."""
    cell, wanted, device = run.cell, run.cell.evaluation, run.device
    started = device.clock()
    run.finish()
    scored = score_tasks(run, "test", wanted.tasks)
    if not np.isfinite(scored.per_task).all():
        raise Diverged("the score of a test task is not finite")
    curve = {
        str(steps): tuple(score_tasks(run, "test", wanted.tasks, steps).per_task)
        for steps in wanted.curve
    }  # fmt: skip
    latency_seconds = _latency_seconds(run)
    depends_on_queries = _depends_on_queries(run)
    best_step = run.training.best_step
    return Scores(
        metric=wanted.metric,
        unit=run.metric.unit,
        higher_is_better=run.metric.higher_is_better,
        per_task=tuple(scored.per_task),
        manifest=manifest_digest(run.source, "test", cell.test, wanted),
        seconds=device.slowest(device.clock() - started),
        adapt_seconds=tuple(scored.adapt_seconds),
        adapt_tasks=tuple(scored.adapt_tasks),
        predict_seconds=scored.predict_seconds,
        latency_seconds=latency_seconds,
        curve=curve,
        transductive=run.learner.transductive,
        transductive_found=depends_on_queries,
        state="last" if best_step is None else f"best validation, step {best_step}",
    )


def manifest_digest(source: Source, split: Split, protocol: Protocol, evaluation: Evaluation) -> str:
    """SHA-256 over what the tasks are made of: the same for every algorithm, seed, backend and rank."""
    return drawn_digest(source, split, protocol, evaluation.tasks, evaluation.seed)


@dataclass
class ScoredTasks:
    """Scores in the order of the tasks; seconds per batch, and of predicting in all of them."""

    per_task: list[float] = field(default_factory=list)
    adapt_seconds: list[float] = field(default_factory=list)
    adapt_tasks: list[float] = field(default_factory=list)
    predict_seconds: float = 0.0


def score_tasks(run: CellRun, split: Split, count: int, steps: int | None = None) -> ScoredTasks:
    """Score tasks 0 … count-1 of a split; steps: of adaptation, None for as many as the learner takes."""
    device, evaluation = run.device, run.cell.evaluation
    mine, own = share(count, device), ScoredTasks()
    for start in range(mine.start, mine.stop, evaluation.batch):
        numbers = range(start, min(start + evaluation.batch, mine.stop))
        _score_batch(run, split, numbers, steps, own)
        if split == "test":
            run.emit(EvaluateEvent(numbers.stop - mine.start, len(mine)))
    return ScoredTasks(
        per_task=_joined(device.gather(own.per_task)),
        adapt_seconds=_joined(device.gather(own.adapt_seconds)),
        adapt_tasks=_joined(device.gather(own.adapt_tasks)),
        predict_seconds=device.slowest(own.predict_seconds),
    )


def _score_batch(run: CellRun, split: Split, numbers: range, steps: int | None, scored: ScoredTasks) -> None:
    """Add the scores and times of the tasks with these numbers to `scored`."""
    device = run.device
    by_number: dict[int, float] = {}
    adapt_seconds = 0.0
    for of_shape, episodes in _batches(run, split, numbers):
        with torch.no_grad():
            started = device.clock()
            state = run.learner.adapt(episodes.support, steps)
            adapted = device.clock()
            prediction = run.learner.predict(state, episodes.query.x)
            predicted = device.clock()
            needed = as_needed(prediction, run.learner.outputs, run.metric.needs)
            scores = run.metric.score(needed, episodes.query.y)
        by_number.update(zip(of_shape, scores.tolist(), strict=True))
        adapt_seconds += adapted - started
        scored.predict_seconds += predicted - adapted
    scored.per_task += [by_number[number] for number in numbers]
    scored.adapt_seconds.append(adapt_seconds)
    scored.adapt_tasks.append(float(len(numbers)))


def _batches(run: CellRun, split: Split, numbers: Sequence[int]) -> Iterator[tuple[Sequence[int], Episodes]]:
    """The test tasks of these numbers in batches of one shape each, with the numbers of each batch."""
    seed = run.cell.evaluation.seed
    for shape, of_shape in groups(run.source, split, run.cell.test, numbers, seed):
        yield of_shape, draw_episodes(run.source, split, shape, of_shape, seed)


def _joined(ranks: Sequence[Sequence[float]]) -> list[float]:
    return [value for rank in ranks for value in rank]


def _latency_seconds(run: CellRun) -> tuple[float, ...]:
    """Seconds to adapt to single tasks, one at a time, on this rank."""
    evaluation, seconds = run.cell.evaluation, []
    for number in range(evaluation.latency_tasks):
        ((_, episodes),) = _batches(run, "test", [number])
        with torch.no_grad():
            started = run.device.clock()
            run.learner.adapt(episodes.support)
            seconds.append(run.device.clock() - started)
    return tuple(seconds)


def _depends_on_queries(run: CellRun) -> bool | None:
    """Whether a query's prediction changes with the other queries of its task: in reverse, or in parts."""
    evaluation = run.cell.evaluation
    tasks = range(min(TRANSDUCTION_TASKS, evaluation.tasks))
    found = [_batch_depends_on_queries(run, episodes) for _, episodes in _batches(run, "test", tasks)]
    return None if None in found else any(found)


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
