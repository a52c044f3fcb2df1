"""Results made up for tests: the records that a run would store, with scores spread as real ones are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from metabench import Budget, Cell, Evaluation, Protocol, Result, Spec
from metabench.records.cell import Status
from metabench.records.result import Block, Scores, Training, Validation

TASK_SPREAD = 0.08
REST_SPREAD = 0.06
SEED_SPREAD = 0.004


HOSTILE = "<img src=x onerror=alert(1)>|[x](javascript:alert(1))$\\input{/etc/passwd}$\x1b[31m=1+1"
"""A text that attacks every format of a report."""


def made_cell(
    algorithm: str = "maml",
    seed: int = 0,
    *,
    settings: Mapping[str, Any] | None = None,
    network: str = "conv4",
    dataset: str = "glyphs",
    ways: int = 5,
    shots: int = 1,
    backend: str = "cpu",
    ranks: int = 1,
    steps: int = 400,
    tasks: int = 16,
    test_tasks: int = 600,
    suite: str = "made",
    version: int = 1,
    group: str = "accuracy",
    label: str = "",
    target: float | None = None,
    plugin: str = "metabench 0.1.0",
    expect: Sequence[str] = (),
) -> Cell:
    """A cell as a suite would give it."""
    layout = {"threads": 1} | ({"ranks": ranks} if backend != "cpu" else {})
    return Cell(
        suite=suite, suite_version=version, algorithm=Spec(algorithm, dict(settings or {"inner_rate": 0.4})),
        network=Spec(network, {"filters": 64}), dataset=Spec(dataset, {}), test=Protocol(ways, shots, 15),
        train=Protocol(ways, shots, 15), budget=Budget(steps, tasks, validate_every=50, target=target),
        evaluation=Evaluation(tasks=test_tasks, metric="accuracy"), backend=Spec(backend, layout), seed=seed,
        plugins={"algorithm": plugin, "dataset": "metabench 0.1.0"}, group=group, label=label,
        expect=tuple(expect),
    )  # fmt: skip


def made_scores(cell: Cell, accuracy: float, *, exact: bool = False) -> tuple[float, ...]:
    """Per-task scores: what tasks have in common depends on the data and protocol, never on the method.

    exact: the same scores for every backend, as where ranks compute what one rank does.
    """
    board = f"{cell.dataset.name} {cell.test.ways} {cell.test.shots}"
    tasks = np.random.default_rng([7, *board.encode()]).standard_normal(cell.evaluation.tasks)
    name = f"{cell.algorithm} {cell.label} {dict(cell.algorithm.settings)} {cell.seed}"
    name += "" if exact else f" {cell.backend}{cell.backend.settings.get('ranks')} {cell.budget.tasks}"
    own = np.random.default_rng([8, *name.encode()])
    rest = own.standard_normal(cell.evaluation.tasks)
    values = accuracy + SEED_SPREAD * own.standard_normal() + TASK_SPREAD * tasks + REST_SPREAD * rest
    return tuple(float(v) for v in np.clip(np.round(values * 75) / 75, 0, 1))


def made_result(
    cell: Cell | None = None,
    accuracy: float = 0.7,
    *,
    step_seconds: float = 0.02,
    exact: bool = False,
    machine: str = "made-machine-2-cores",
    unsteady: bool = False,
    rising: bool = False,
    **changes: Any,
) -> Result:
    """The result of a cell that ran well; changes: fields of the result to replace."""
    cell = cell or made_cell()
    rng = np.random.default_rng([9, *cell.id.rpartition("-")[0].encode()])  # whatever its digest
    spread = 0.3 if unsteady else 0.01
    steps = cell.budget.steps
    times = step_seconds * (1 + spread * rng.standard_normal(20).clip(-3, 3))
    lengths = [steps // 20 - 2, *([steps // 20] * 19)] if steps else []  # two steps are warm-up
    blocks = tuple(
        Block(n, float(t) * n, communication=float(t) * n / 10) for n, t in zip(lengths, times, strict=False)
    )
    warmup = (Block(2, 5 * step_seconds),) if steps else ()
    seconds = sum(b.seconds for b in (*warmup, *blocks))
    marks = range(50, steps + 1, 50)
    marks = marks if steps else range(0)
    curve = [accuracy - (0.3 * (1 - m / steps) if rising else 0.3 * float(np.exp(-m / 40))) for m in marks]
    validations = tuple(
        Validation(m, m * step_seconds * seconds / (steps * step_seconds), v, 0.02)
        for m, v in zip(marks, curve, strict=True)
    )
    target = cell.budget.target
    reached = next((v for v in validations if target is not None and v.mean >= target), None)
    training = Training(
        steps=steps, tasks=steps * cell.budget.tasks, seconds=seconds, blocks=blocks,
        warmup=warmup, losses=((0, 1.6), (steps // 2, 0.6 + rng.random() / 10), (steps, 0.4)),
        validations=validations,
        validation_seconds=1.0, best_step=steps, target_step=reached.step if reached else None,
        target_seconds=reached.train_seconds if reached else None,
    )  # fmt: skip
    manifest = f"{cell.dataset.name}-{cell.test.ways}-{cell.test.shots}".encode().hex().ljust(64, "0")[:64]
    scores = Scores(
        metric="accuracy", unit="share", higher_is_better=True,
        per_task=made_scores(cell, accuracy, exact=exact), manifest=manifest, seconds=3.0,
        adapt_seconds=(0.5, *([0.1] * 18)), adapt_tasks=(32.0,) * 19, predict_seconds=0.2,
        latency_seconds=(0.01, 0.011, 0.02), curve={"0": (0.2, 0.22), "1": (0.6, 0.7), "5": (0.7, 0.72)},
        transductive=cell.algorithm.name == "maml", transductive_found=cell.algorithm.name == "maml",
        state="best validation, step 400",
    )  # fmt: skip
    result = Result(
        cell=cell, status=Status.OK,
        started=f"2026-01-0{1 + cell.seed % 9}T10:00:00+00:00", wall_seconds=30.0,
        command="metabench run made", path="batched", parameters=111_936,
        environment={
            "machine": machine, "processor": "Made Processor", "cores": 2, "python": "3.11.7",
            "packages": {"metabench": "0.1.0", "torch": "2.9.0"}, "system": "Linux", "device": "cpu",
            "threads": 1, "suite_digest": hashlib.sha256(cell.suite.encode()).hexdigest(),
        },
        setup={"start": 0.3, "import": 1.0, "data": 0.5, "build": 0.1}, training=training, scores=scores,
        code={"harness": "0" * 64}, memory={"host": 400.0 * 2**20}, cost={"flops_per_step": 2.5e9},
    )  # fmt: skip
    return replace(result, **changes)


def store(folder: Path, results: Sequence[Result]) -> list[Path]:
    """Writes results where a run would."""
    paths = []
    for result in results:
        cell = result.cell
        path = folder / cell.suite_folder / f"{cell.id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result.to_json()))
        paths.append(path)
    return paths


def made_board(seeds: Sequence[int] = (0, 1, 2), test_tasks: int = 600) -> list[Result]:
    """A small suite: three methods, one protocol, two ranks of one method, and a failure."""
    accuracies = {"maml": 0.75, "protonet": 0.76, "nearest-neighbour": 0.45}
    results = []
    for name, accuracy in accuracies.items():
        for seed in seeds:
            still = name == "nearest-neighbour"
            cell = made_cell(name, seed, test_tasks=test_tasks, steps=0 if still else 400)
            results.append(untrained(cell, accuracy) if still else made_result(cell, accuracy))
    for ranks, seconds in ((1, 0.02), (2, 0.012)):
        cell = made_cell(
            "reptile", backend="cpu-ranks", ranks=ranks, group="scaling-strong", test_tasks=test_tasks
        )
        results.append(made_result(cell, 0.66, step_seconds=seconds, exact=True))
    lost = made_cell("cnp", test_tasks=test_tasks)
    failed = Result(
        cell=lost, status=Status.OUT_OF_MEMORY, reason="the host has no memory left", exit_code=-9,
        log_tail=("step 12", "Killed"), environment={"machine": "made-machine-2-cores"},
    )  # fmt: skip
    return [*results, failed]


def untrained(cell: Cell, accuracy: float) -> Result:
    """The result of a learner that has nothing to train."""
    return made_result(replace(cell, train=None), accuracy, training=None)


def sized(shots: int, fits: bool, *, ways: int = 10, limit: float = 2.0, seed: int = 0) -> Result:
    """A result of a cell of this size, which fits in memory or not."""
    cell = made_cell("maml", seed, ways=ways, shots=shots, test_tasks=20, group="throughput-memory")
    cell = replace(cell, backend=Spec("cpu", {"threads": 1, "memory_gib": limit}))
    if fits:
        return made_result(cell, memory={"host": shots * 100.0 * 2**20})
    return made_result(cell, status=Status.OUT_OF_MEMORY, scores=None, training=None)
