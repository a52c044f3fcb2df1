"""What the tests of verification and publishing share: honest results, and hands that change them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from click.testing import CliRunner

from helpers import results
from helpers.results import made_result
from helpers.shell import ROOT
from metabench import Result
from metabench.cli import metabench
from metabench.publishing import Finding, InstalledSuite, verify
from metabench.publishing.training_checks import best_step
from metabench.records import SCHEMA, Block, Cell, Training, Validation, digest_of
from metabench.records.code import CodeReader
from metabench.records.upgrade import upgrade

LOOKED = {"reference_seconds": 0.0014}


def consistent(result: Result) -> Result:
    """The result with every figure that follows from others as the loop of a run would store it."""
    scores, training = result.scores, result.training
    environment = {**result.environment, "before": LOOKED, "after": LOOKED}
    if training is not None and training.steps:
        training = _consistent_training(result.cell, training)
    if scores is not None:
        evaluation = result.cell.evaluation
        sizes = [
            min(evaluation.batch, evaluation.tasks - i) for i in range(0, evaluation.tasks, evaluation.batch)
        ]
        best = training.best_step if training is not None else None
        scores = replace(
            scores,
            adapt_tasks=tuple(map(float, sizes)),
            adapt_seconds=tuple(0.1 for _ in sizes),
            latency_seconds=(0.01,) * evaluation.latency_tasks,
            curve={str(steps): scores.per_task for steps in evaluation.curve},
            state="last" if best is None else f"best validation, step {best}",
        )
    code = {"harness": harness_code()}
    return replace(result, environment=environment, training=training, scores=scores, code=code)


@cache
def harness_code() -> str:
    """The digest of the harness as it is."""
    return CodeReader().harness


def _consistent_training(cell: Cell, training: Training) -> Training:
    """Blocks that end where validations are due, a loss for each, and figures that follow from them."""
    budget = cell.budget
    blocks = tuple(_cut(training.blocks, sum(b.steps for b in training.warmup), budget.validate_every))
    every = (*training.warmup, *blocks)
    ends = list(accumulate(block.steps for block in every))
    seconds = dict(zip(ends, accumulate(block.seconds for block in every), strict=True))
    noise = np.random.default_rng([10, *cell.id.encode()])
    answers = cell.test.ways * cell.test.queries * budget.validation_tasks
    validations = tuple(
        Validation(v.step, seconds[v.step], round(v.mean * answers) / answers, v.half_width)
        for v in training.validations
    )
    reached = [v for v in validations if budget.target is not None and v.mean >= budget.target]
    retimed = replace(
        training,
        blocks=blocks,
        seconds=seconds[ends[-1]],
        losses=tuple((end, 0.4 + 1.2 / (1 + end) + 0.02 * float(noise.random())) for end in ends),
        validations=validations,
        target_step=reached[0].step if reached else None,
        target_seconds=reached[0].train_seconds if reached else None,
    )
    return replace(retimed, best_step=best_step(retimed, higher_is_better=True))


def _cut(blocks: Sequence[Block], step: int, every: int) -> Iterator[Block]:
    """The blocks after `step` steps, cut where a validation is due; a cut keeps the time of a step."""
    for block in blocks:
        left = block.steps
        while left:
            steps = min(left, every - step % every)
            share = steps / block.steps
            yield Block(steps, block.seconds * share, communication=block.communication * share)
            step, left = step + steps, left - steps


def made_cell(algorithm: str = "maml", seed: int = 0, **changes: Any) -> Cell:
    """A cell of a data set that is not installed, so that nothing can say what its test tasks are."""
    given = {"dataset": "made-images", "settings": {"inner_rate": 0.5}, **changes}  # 0.4 is MAML's default
    return results.made_cell(algorithm, seed, **given)


def honest_result(cell: Cell | None = None, accuracy: float = 0.7, **changes: Any) -> Result:
    """A result that a run could have stored."""
    return consistent(made_result(cell or made_cell(), accuracy, **changes))


def honest(seeds: Sequence[int] = (0, 1, 2), methods: Sequence[str] = ("maml", "protonet")) -> list[Result]:
    return [honest_result(made_cell(method, seed)) for method in methods for seed in seeds]


def edited(path: Path, change: Callable[[dict[str, Any]], Any], seal: bool = False) -> None:
    """Changes a stored file as a person with an editor would; seal: and forges the seal."""
    document = json.loads(path.read_text())
    change(document)
    if seal:
        document["seal"] = digest_of({k: v for k, v in document.items() if k != "seal"})
    path.write_text(json.dumps(document))


def forged(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Changes a stored file and makes everything anew that says so: mean, digest, seal and name."""
    document = json.loads(path.read_text())
    change(document)
    if document["scores"] and document["scores"]["per_task"]:
        document["mean"] = fmean(document["scores"]["per_task"])
    cell = Cell.from_json(upgrade(document, SCHEMA)["cell"])
    document["digest"] = cell.digest
    document["seal"] = digest_of({k: v for k, v in document.items() if k != "seal"})
    path.unlink()
    target = path.with_name(f"{cell.id}.json")
    target.write_text(json.dumps(document))
    return target


def copied_board(suite: str, target: Path) -> Path:
    """A copy of a published board, to be forged."""
    return Path(shutil.copytree(ROOT / "results" / suite, target / suite))


def made_suite(*more: Cell) -> dict[str, InstalledSuite]:
    cells = [result.cell for result in honest()]
    digest = str(honest()[0].environment["suite_digest"])
    return {"made-v1": InstalledSuite([*cells, *more], digest)}


def run(command: str, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(metabench, [command, *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return int(done.return_value), done.output


def errors(path: Path) -> list[Finding]:
    return verify([path]).errors
