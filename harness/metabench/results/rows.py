"""One result as one flat row: the axes of its cell, its outcome and the figures that tables are made of.

A row holds plain JSON values only, so that it can be cached; the per-task scores travel beside it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metabench import stats
from metabench.records.cell import BATCHES, Cell
from metabench.records.result import Result, Training, Validation
from metabench.records.row import Row

ROW_VERSION = 7
"""Raised when a row's fields or their meaning change: cached rows of another version are made anew."""

AXES = (
    "suite", "version", "group", "method", "algorithm", "label", "network", "dataset", "ways", "shots",
    "queries", "train", "steps", "step_tasks", "backend", "ranks", "threads", "seed", "metric", "status",
    "machine", "date", "plugin",
)  # fmt: skip
"""The columns that tables can be filtered, sorted and pivoted by."""

KEYS = (
    "suite", "version", "group", "algorithm", "algorithm_settings", "label", "network", "network_settings",
    "dataset", "dataset_settings", "ways", "shots", "queries", "train", "steps", "step_tasks",
    "budget_seconds", "target", "backend", "backend_settings", "ranks", "threads", "seed",
    "evaluation_tasks", "evaluation_seed", "plugin", "configuration", "match", "work", "weak_work",
    "size_work", "expected", "cell", "digest", "status", "reason", "log_tail", "notes", "machine",
    "hardware", "device", "cores", "python", "torch", "git", "date", "started", "wall_seconds", "command",
    "path", "parameters", "file", "setup_seconds", "setup", "training_seconds", "trained_steps",
    "validation_seconds", "step_seconds", "step_spread", "blocks", "tasks_per_second", "warmup_seconds",
    "unstable", "communication_share", "sampling_share", "adapt_seconds", "evaluation_seconds",
    "latency_p50", "latency_p95", "memory_host", "memory_device", "energy", "training_energy",
    "target_energy", "cost", "flat", "validations", "best_step", "target_step", "target_seconds",
    "ended_by", "loss", "metric", "unit", "higher_is_better", "mean", "spread", "half_width", "count",
    "manifest", "transductive", "transductive_found", "state", "curve",
)  # fmt: skip
"""The names of a row's values: every row has exactly these."""

WHOLE = frozenset((
    "version", "ways", "shots", "queries", "steps", "step_tasks", "ranks", "seed", "evaluation_tasks",
    "evaluation_seed", "parameters", "count", "blocks",
))  # fmt: skip
TEXTS = frozenset((
    "suite", "group", "algorithm", "algorithm_settings", "label", "network", "network_settings", "dataset",
    "dataset_settings", "train", "backend", "backend_settings", "plugin", "configuration", "match", "work",
    "weak_work", "size_work", "cell", "digest", "status", "reason", "machine", "hardware", "device", "python",
    "torch", "git", "date", "started", "command", "path", "file", "ended_by", "metric", "unit",
))  # fmt: skip
LISTS = frozenset({"expected", "log_tail", "notes"})
FIGURES = frozenset({"setup", "energy", "training_energy", "target_energy", "cost", "curve"})
FLAGS = frozenset({"unstable", "flat", "higher_is_better", "transductive", "transductive_found"})
OPTIONAL_TEXTS = frozenset({"manifest", "state"})
"""The kind of each value of a row; what is named nowhere is a figure or absent."""

FLAT_PART = 0.25
"""The last part of training over which the validation curve must be flat."""

FLAT_GAIN = 0.05
"""The part of all that training gained by which the curve may still move there."""


def row_of(result: Result, file: str = "") -> tuple[Row, NDArray[np.float64]]:
    """The row of a result and its per-task scores (empty where it has none).

    Raises ValueError or TypeError where a value is of a kind that no run stores.
    """
    row = _axes(result.cell) | _outcome(result, file) | _times(result) | _trained(result)
    scores = np.asarray(result.scores.per_task if result.scores else (), dtype=np.float64)
    row |= _scored(result, scores)
    _require_kinds(row)
    return row, scores


def order(row: Row) -> tuple[Any, ...]:
    """The key that orders rows by suite, task, method and hardware; 5 shots come before 10."""
    return (
        row["suite"], row["version"], row["group"], row["dataset"], _natural(row["dataset_settings"]),
        row["ways"], row["shots"], row["queries"], _natural(row["label"] or row["algorithm"]),
        _natural(row["algorithm_settings"]), row["network"], _natural(row["network_settings"]),
        row["backend"], row["ranks"], _natural(row["backend_settings"]), row["step_tasks"], row["steps"],
        row["seed"], row["digest"],
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _natural(text: str) -> tuple[str | int, ...]:
    """Text and whole numbers in turns, so that "steps 5" comes before "steps 10"."""
    return tuple(int(part) if n % 2 else part for n, part in enumerate(re.split(r"(\d{1,15})", text)))


def _axes(cell: Cell) -> Row:
    backend = ("backend", "plugins.backend")
    step_tasks = ("budget.tasks", "train.size")  # the size of batches is the budget's tasks
    task_size = ("test.ways", "test.shots", "train.ways", "train.shots")
    return {
        "suite": cell.suite,
        "version": cell.suite_version,
        "group": cell.group,
        "algorithm": cell.algorithm.name,
        "algorithm_settings": _compact(cell.algorithm.settings),
        "label": cell.label,
        "network": cell.network.name if cell.network else "",
        "network_settings": _compact(cell.network.settings) if cell.network else "{}",
        "dataset": cell.dataset.name,
        "dataset_settings": _compact(cell.dataset.settings),
        "ways": cell.test.ways,
        "shots": cell.test.shots,
        "queries": cell.test.queries,
        "train": str(cell.train or ""),
        "steps": cell.budget.steps,
        "step_tasks": cell.budget.tasks,
        "budget_seconds": cell.budget.seconds,
        "target": cell.budget.target,
        "backend": cell.backend.name,
        "backend_settings": _compact(cell.backend.settings),
        "ranks": cell.ranks,
        "threads": _count(cell.backend.settings.get("threads")),
        "seed": cell.seed,
        "evaluation_tasks": cell.evaluation.tasks,
        "evaluation_seed": cell.evaluation.seed,
        "plugin": cell.plugins.get("algorithm", ""),
        # equal for cells that differ in nothing but …
        "configuration": _key(cell, "seed"),
        "match": _key(cell, "seed", "plugins"),
        "work": _key(cell, "seed", *backend),
        "weak_work": _key(cell, "seed", *backend, *step_tasks),
        "size_work": _key(cell, "seed", "plugins.backend", *task_size),
        "expected": list(cell.expect),
        "cell": cell.id,
        "digest": cell.digest,
    }


def _key(cell: Cell, *without: str) -> str:
    """A key of the cell that is short enough for a column: rows are grouped by it, and nothing stores it."""
    return cell.key(without)[:16]


def _outcome(result: Result, file: str) -> Row:
    environment = result.environment
    return {
        "status": result.status.value,
        "reason": result.reason,
        "log_tail": list(result.log_tail[-5:]),
        "notes": list(result.notes),
        "machine": str(environment.get("machine", "") or "unknown machine"),
        "hardware": _hardware(result),
        "device": str(environment.get("device") or "").partition(":")[0],
        "cores": _count(environment.get("cores")),
        "python": str(environment.get("python", "")),
        "torch": str((environment.get("packages") or {}).get("torch", "")),
        "git": str(environment.get("git") or ""),
        "date": result.started[:10],
        "started": result.started,
        "wall_seconds": result.wall_seconds,
        "command": result.command,
        "path": result.path,
        "parameters": result.parameters,
        "file": file,
    }


def _hardware(result: Result) -> str:
    told = result.environment
    device = str(told.get("gpu") or told.get("device") or "")
    parts = [str(told.get("processor") or ""), f"{told['cores']} cores" if told.get("cores") else ""]
    if device and not device.startswith("cpu"):
        parts.insert(0, device)
    return ", ".join(p for p in parts if p)


def _scored(result: Result, scores: NDArray[np.float64]) -> Row:
    told = result.scores
    if told is None:
        names = ("mean", "spread", "half_width", "manifest", "transductive", "transductive_found", "state")
        return dict.fromkeys(names) | {
            "count": 0, "metric": result.cell.evaluation.metric, "unit": "", "higher_is_better": True,
            "curve": {},
        }  # fmt: skip
    spread = float(scores.std(ddof=1)) if len(scores) > 1 else None
    return {
        "metric": told.metric,
        "unit": told.unit,
        "higher_is_better": told.higher_is_better,
        "mean": float(scores.mean()) if len(scores) else None,
        "spread": spread,
        "half_width": None if spread is None else stats.half_width(spread, len(scores)),
        "count": len(scores),
        "manifest": told.manifest,
        "transductive": told.transductive,
        "transductive_found": told.transductive_found,
        "state": told.state,
        "curve": {steps: sum(each) / len(each) for steps, each in told.curve.items() if len(each)},
    }


def _times(result: Result) -> Row:
    training, scores = result.training, result.scores
    blocks = training.blocks if training else ()
    per_step = [b.seconds / b.steps for b in blocks if b.steps]
    seconds, steps = sum(b.seconds for b in blocks), sum(b.steps for b in blocks)
    step = seconds / steps if steps else None
    latency = scores.latency_seconds if scores else ()
    middle, slow = (median(latency), _percentile(latency, 0.95)) if latency else (None, None)
    return {
        "setup_seconds": sum(result.setup.values()) if result.setup else None,
        "setup": dict(result.setup),
        "training_seconds": training.seconds if training else None,
        "trained_steps": training.steps if training else None,
        "validation_seconds": training.validation_seconds if training else None,
        "step_seconds": step,
        "step_spread": float(np.std(per_step, ddof=1)) if len(per_step) > 1 else None,
        "blocks": len(per_step),
        "tasks_per_second": result.cell.budget.tasks / step if step else None,
        "warmup_seconds": sum(b.seconds for b in training.warmup) if training else None,
        "unstable": stats.unstable(per_step),
        "communication_share": _share([b.communication for b in blocks], seconds),
        "sampling_share": _share([b.sampling for b in blocks], seconds),
        "adapt_seconds": _per_task(scores.adapt_seconds, scores.adapt_tasks) if scores else None,
        "evaluation_seconds": scores.seconds if scores else None,
        "latency_p50": middle,
        "latency_p95": slow,
        "memory_host": result.memory.get("host"),
        "memory_device": result.memory.get("device"),
        "energy": dict(result.energy),
        "training_energy": dict(training.energy) if training else {},
        "target_energy": dict(training.target_energy) if training else {},
        "cost": dict(result.cost),
    }


def _per_task(seconds: Sequence[float], tasks: Sequence[float]) -> float | None:
    """Seconds of adaptation per task: the median over batches, which the first, cold one cannot move."""
    each = [s / t for s, t in zip(seconds, tasks, strict=False) if t]
    return median(each) if each else None


def _percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that so large a part of the values does not exceed."""
    return sorted(values)[math.ceil(part * len(values)) - 1]


def _share(parts: Sequence[float], whole: float) -> float | None:
    return sum(parts) / whole if whole else None


def _trained(result: Result) -> Row:
    training = result.training
    if training is None:
        return {"flat": None, "validations": [], "best_step": None, "target_step": None,
                "target_seconds": None, "ended_by": "", "loss": None}  # fmt: skip
    return {
        "flat": _flat(training) if result.cell.budget.steps and result.cell.train else None,
        "validations": [[v.step, round(v.train_seconds, 4), v.mean] for v in training.validations],
        "best_step": training.best_step,
        "target_step": training.target_step,
        "target_seconds": training.target_seconds,
        "ended_by": training.ended_by,
        "loss": training.losses[-1][1] if training.losses else None,
    }


def _flat(training: Training) -> bool:
    """Whether validation stopped moving over the last quarter of the steps.

    The mean over it is compared with that over the quarter before: it must differ by less than the
    validation's own interval, and by less than FLAT_GAIN of all that training gained (or half the
    interval, where that is more). A curve with no validation in either quarter has not been watched.
    """

    def within(low: float, high: float) -> list[Validation]:
        return [v for v in training.validations if low * training.steps < v.step <= high * training.steps]

    last, before = within(1 - FLAT_PART, 1), within(1 - 2 * FLAT_PART, 1 - FLAT_PART)
    if not last or not before:
        return False
    now, half = fmean(v.mean for v in last), fmean(v.half_width for v in last)
    moved = abs(now - fmean(v.mean for v in before))
    gained = abs(now - training.validations[0].mean)
    return moved <= min(half, max(FLAT_GAIN * gained, half / 2))


def unit_of_work(row: Mapping[str, Any]) -> str:
    """What the tasks of a training step are: supervised training counts labelled examples."""
    return "examples" if row["train"].startswith(BATCHES) else "tasks"


def _require_kinds(row: Row) -> None:
    """Raises ValueError where a value of the row is of another kind than tables can rely on."""
    for name in KEYS:
        value = row[name]
        if name in WHOLE:
            good = isinstance(value, int) and not isinstance(value, bool)
        elif name in LISTS:
            good = isinstance(value, list) and all(isinstance(one, str) for one in value)
        elif name in FIGURES:
            good = isinstance(value, dict) and all(_is_number(one) for one in value.values())
        elif name == "validations":
            good = all(_is_number(figure) for one in value for figure in one)
        elif name in TEXTS:
            good = isinstance(value, str)
        elif name in OPTIONAL_TEXTS:
            good = value is None or isinstance(value, str)
        elif name in FLAGS:
            good = value is None or isinstance(value, bool)
        else:
            good = value is None or _is_number(value)
        if not good:
            raise ValueError(f"{name} is {value!r:.60}")
    if not all(steps.isdigit() for steps in row["curve"]):
        raise ValueError("the curve's steps are no whole numbers")


def _count(value: Any) -> int | None:
    """A backend's own setting, where it is a number as in ours."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _compact(settings: Any) -> str:
    if not isinstance(settings, dict):
        raise ValueError(f"settings are {settings!r:.60}")
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))
