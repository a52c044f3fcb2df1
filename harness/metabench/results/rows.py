"""One result as one flat row: the axes of its cell, its outcome and the figures that tables are made of.

A row holds plain JSON values only, so that it can be cached; the per-task scores travel beside it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metabench import stats
from metabench.records.axes import series_of
from metabench.records.cell import Cell, Status
from metabench.records.identity import digest_of
from metabench.records.metric_scores import MetricScores
from metabench.records.result import Result, Scores
from metabench.records.row import (
    Averages,
    CellFields,
    FurtherFields,
    LearnerFields,
    MachineFields,
    MeasureFields,
    OutcomeFields,
    Peaks,
    Row,
    ScoreFields,
    SeedFields,
    TuningFields,
)
from metabench.records.tuning import Tuning
from metabench.results.keys import keys_of
from metabench.results.row_kinds import is_whole, require_kinds
from metabench.results.training_fields import training_fields

ROW_VERSION = 13
"""Raised when the meaning of a field changes: cached rows of another version are made anew."""

CODE_DIGITS = 12

KEY_DIGITS = 16
"""Digits of a key in a row, by which rows are grouped; no result file stores it."""


def row_of(result: Result, file: str = "") -> tuple[Row, NDArray[np.float64]]:
    """Return the row of a result and its scores [1 + further metrics, tasks], without tasks if it has none.

    The first line of scores is of the metric that ranks, the others of `row["further"]`, in its order: the
    tasks' own scores, or of a pooled metric the jackknife's pseudo-values. Raises ValueError, TypeError or
    OverflowError where a value is of a kind that no run stores.
    """
    scores = _per_task_scores(result)
    further = _further_scores(result.scores, len(scores)) if len(scores) else {}
    row: Row = {
        **_cell_fields(result.cell),
        **_machine_fields(result.environment),
        **_learner_fields(result),
        **_tuning_fields(result),
        **_averages(result),
        **_peaks(result),
        **_seed_fields(result.cell),
        **_outcome_fields(result, file),
        **training_fields(result),
        **_measure_fields(result),
        **_score_fields(result.scores, scores, further),
    }
    require_kinds(row)
    return row, np.stack([scores, *further.values()])


def _per_task_scores(result: Result) -> NDArray[np.float64]:
    """Return the scores; those of a run that did not end well count only where they are all numbers."""
    scores = np.asarray(result.scores.per_task if result.scores else (), dtype=np.float64)
    if scores.ndim == 1 and np.isfinite(scores).all():
        return scores
    if result.status is Status.OK:
        raise ValueError("the scores of an ok result must be finite numbers")
    return np.empty(0)


def order(row: Row) -> tuple[Any, ...]:
    """Return the key that orders rows by suite, task, method and hardware; 5 shots come before 10."""
    return (
        row["suite"], row["version"], row["group"], row["dataset"], _natural(row["dataset_settings"]),
        row["ways"], row["shots"], row["queries"], _natural(row["method_name"]),
        _natural(row["algorithm_settings"]), row["network"], _natural(row["network_settings"]),
        row["backend"], row["ranks"], _natural(row["backend_settings"]), row["step_tasks"], row["steps"],
        row["seed"], row["digest"],
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _natural(text: str) -> tuple[str | int, ...]:
    """Return text and whole numbers in turns, so that "steps 5" comes before "steps 10"."""
    return tuple(int(part) if n % 2 else part for n, part in enumerate(re.split(r"(\d{1,15})", text)))


def steps_in_test(settings: Mapping[str, Any]) -> int | None:
    """Return how many gradient steps an algorithm with these settings takes on a test task, if they say so.

    `test_steps`, or where that is None or no setting `steps`, those of training; `head_steps`, of a new head.
    """
    named = (settings.get(name) for name in ("test_steps", "head_steps", "steps"))
    return next((_count(steps) for steps in named if steps is not None), None)


def _cell_fields(cell: Cell) -> CellFields:
    method = cell.label or cell.algorithm.name
    network = cell.network.name if cell.network else ""
    keys = keys_of(cell)
    return {
        "suite": cell.suite,
        "version": cell.suite_version,
        "group": cell.group,
        "series": series_of(cell.group),
        "method": method,
        "method_name": method,
        "algorithm": cell.algorithm.name,
        "algorithm_settings": _compact(cell.algorithm.settings),
        "test_steps": steps_in_test(cell.algorithm.settings),
        "label": cell.label,
        "network": network,
        "network_name": network,
        "network_settings": _compact(cell.network.settings) if cell.network else "{}",
        "dataset": cell.data_text,
        "dataset_name": cell.data_text,
        "dataset_settings": _compact(_data_settings(cell)),
        "ways": cell.test.ways,
        "shots": cell.test.shots,
        "queries": cell.test.queries,
        "task": str(cell.test),
        "train": str(cell.train or ""),
        "steps": cell.budget.steps,
        "step_tasks": cell.budget.tasks,
        "step_images": cell.step_images,
        "budget_images": cell.budget.images,
        "patience": cell.budget.patience,
        "budget_seconds": cell.budget.seconds,
        "target": cell.budget.target,
        "backend": cell.backend.name,
        "backend_name": cell.backend.name,
        "backend_settings": _compact(cell.backend.settings),
        "ranks": cell.ranks,
        "threads": _count(cell.backend.settings.get("threads")),
        "evaluation_seed": cell.evaluation.seed,
        "plugin": cell.plugins.get("algorithm", ""),
        "configuration": keys.configuration[:KEY_DIGITS],
        "match": keys.row[:KEY_DIGITS],
        "work": keys.work[:KEY_DIGITS],
        "weak_work": keys.weak_work[:KEY_DIGITS],
        "size_work": keys.size_work[:KEY_DIGITS],
        "length_work": keys.length_work[:KEY_DIGITS],
    }


def _data_settings(cell: Cell) -> Any:
    """Return the settings of the data set, and those of the one that is tested, where it is another."""
    if cell.test_dataset is None:
        return cell.dataset.settings
    tested = {f"test {name}": value for name, value in cell.test_dataset.settings.items()}
    return {**cell.dataset.settings, **tested}


def _seed_fields(cell: Cell) -> SeedFields:
    return {
        "seed": cell.seed,
        "evaluation_tasks": cell.evaluation.tasks,
        "expected": list(cell.expect),
        "cell": cell.id,
        "digest": cell.digest,
    }


def _machine_fields(environment: Mapping[str, Any]) -> MachineFields:
    return {
        "machine": str(environment.get("machine", "") or "unknown machine"),
        "hardware": _hardware(environment),
        "device": str(environment.get("device") or "").partition(":")[0],
        "cores": _count(environment.get("cores")),
    }


def _hardware(environment: Mapping[str, Any]) -> str:
    device = str(environment.get("gpu") or environment.get("device") or "")
    cores = f"{environment['cores']} cores" if environment.get("cores") else ""
    parts = [str(environment.get("processor") or ""), cores]
    if device and not device.startswith("cpu"):
        parts.insert(0, device)
    return ", ".join(part for part in parts if part)


def _learner_fields(result: Result) -> LearnerFields:
    scores = result.scores
    return {
        "path": result.path,
        "parameters": result.parameters,
        "code": digest_of(result.code)[:CODE_DIGITS] if result.code else "",
        "contract": result.contract,
        "metric": scores.metric if scores else result.cell.evaluation.metric,
        "unit": scores.unit if scores else "",
        "higher_is_better": scores.higher_is_better if scores else True,
        "manifest": scores.manifest if scores else None,
        "classes": scores.classes.key if scores and scores.classes else "",
        "state": scores.state if scores else None,
    }


def _tuning_fields(result: Result) -> TuningFields:
    search, record, settings = Tuning.of(result.cell), result.tuning, result.cell.algorithm.settings
    if search is None:
        return {"tuning_trials": None, "tuning_chosen": None, "tuning_settings": "{}", "tuning_curve": []}
    counts = range(1, len(record.trials) + 1) if record else ()
    best = {count: record.best_of(count) for count in counts} if record else {}
    scores = {count: record.trials[n].score for count, n in best.items() if record and n is not None}
    return {
        "tuning_trials": search.trials,
        "tuning_chosen": search.chosen,
        "tuning_settings": _compact({name: settings.get(name) for name in sorted(search.base)}),
        "tuning_curve": [[count, score] for count, score in scores.items() if score is not None],
    }


def _outcome_fields(result: Result, file: str) -> OutcomeFields:
    environment = result.environment
    return {
        "status": result.status.value,
        "reason": result.reason,
        "log_tail": list(result.log_tail[-5:]),
        "notes": list(result.notes),
        "python": str(environment.get("python", "")),
        "torch": str((environment.get("packages") or {}).get("torch", "")),
        "git": str(environment.get("git") or ""),
        "date": result.started[:10],
        "started": result.started,
        "command": result.command,
        "file": file,
        "withdrawn": "",  # said by another file: filled in by `results.cache`
    }


def _averages(result: Result) -> Averages:
    training, scores = result.training, result.scores
    blocks = training.blocks if training else ()
    seconds, steps = sum(b.seconds for b in blocks), sum(b.steps for b in blocks)
    step = seconds / steps if steps else None
    latency = scores.latency_seconds if scores else ()
    return {
        "setup_seconds": sum(result.setup.values()) if result.setup else None,
        "training_seconds": training.seconds if training else None,
        "validation_seconds": training.validation_seconds if training else None,
        "evaluation_seconds": scores.seconds if scores else None,
        "adapt_seconds": _per_task(scores.adapt_seconds, scores.adapt_tasks) if scores else None,
        "step_seconds": step,
        "tasks_per_second": result.cell.budget.tasks / step if step else None,
        "communication_share": _share([b.communication for b in blocks], seconds),
        "sampling_share": _share([b.sampling for b in blocks], seconds),
        "latency_p50": median(latency) if latency else None,
        "latency_p95": _percentile(latency, 0.95) if latency else None,
        "tuning_seconds": result.tuning.seconds if result.tuning else None,
        "wall_seconds": result.wall_seconds,
    }


def _peaks(result: Result) -> Peaks:
    return {"memory_host": result.memory.get("host"), "memory_device": result.memory.get("device")}


def _measure_fields(result: Result) -> MeasureFields:
    training = result.training
    per_step = [b.seconds / b.steps for b in training.blocks if b.steps] if training else []
    return {
        "setup": dict(result.setup),
        "step_spread": _deviation(per_step) if len(per_step) > 1 else None,
        "blocks": len(per_step),
        "warmup_seconds": sum(b.seconds for b in training.warmup) if training else None,
        "unstable": stats.unstable(per_step),
        "energy": dict(result.energy),
        "training_energy": dict(training.energy) if training else {},
        "target_energy": dict(training.target_energy) if training else {},
        "cost": dict(result.cost),
    }


def _deviation(values: Sequence[float]) -> float:
    """Return the standard deviation; for the few blocks of a training numpy and `statistics` are slower."""
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _further_scores(scores: Scores | None, tasks: int) -> dict[str, NDArray[np.float64]]:
    """Return a score of each task by each further metric; a pooled metric's are pseudo-values."""
    further = {}
    for title, metric in scores.further.items() if scores else ():
        per_task = np.asarray(metric.per_task, dtype=np.float64)
        if len(per_task) != tasks:
            raise ValueError(f"{title} has {len(per_task)} scores of {tasks} tasks")
        further[title] = per_task if metric.pooled is None else stats.pseudo_values(metric.pooled, per_task)
    return further


def _further_fields(metric: MetricScores, per_task: NDArray[np.float64]) -> FurtherFields:
    finite = len(per_task) > 1 and bool(np.isfinite(per_task).all())
    spread = float(per_task.std(ddof=1)) if finite else None
    return {
        "value": metric.value if math.isfinite(metric.value) else None,
        "half_width": None if spread is None else stats.half_width(spread, len(per_task)),
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "pooled": metric.pooled is not None,
        "rescored": metric.rescored,
    }


def _score_fields(
    scores: Scores | None, per_task: NDArray[np.float64], further: Mapping[str, NDArray[np.float64]]
) -> ScoreFields:
    spread = float(per_task.std(ddof=1)) if len(per_task) > 1 else None
    curve = scores.curve if scores else {}
    stored = scores.further if scores else {}
    return {
        "mean": float(per_task.mean()) if len(per_task) else None,
        "spread": spread,
        "half_width": None if spread is None else stats.half_width(spread, len(per_task)),
        "count": len(per_task),
        "transductive": scores.transductive if scores else None,
        "transductive_found": scores.transductive_found if scores else None,
        "overlap": scores.overlap if scores else "",
        "curve": _finite({steps: sum(values) / len(values) for steps, values in curve.items() if values}),
        "further": {title: _further_fields(stored[title], values) for title, values in further.items()},
    }


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _per_task(seconds: Sequence[float], tasks: Sequence[float]) -> float | None:
    """Return seconds of adaptation per task: the median over batches, whose first is cold."""
    per_task = [s / t for s, t in zip(seconds, tasks, strict=False) if t]
    return median(per_task) if per_task else None


def _percentile(values: Sequence[float], part: float) -> float:
    """Return the smallest value that so large a part of the values does not exceed."""
    return sorted(values)[math.ceil(part * len(values)) - 1]


def _share(parts: Sequence[float], whole: float) -> float | None:
    return sum(parts) / whole if whole else None


def _count(value: Any) -> int | None:
    """Return a component's own setting, where it is a number as in ours."""
    return value if is_whole(value) else None


def _compact(settings: Any) -> str:
    if not isinstance(settings, dict):
        raise ValueError(f"settings are {settings!r:.60}")
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))
