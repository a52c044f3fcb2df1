"""The training loop: what it keeps, and what ends it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.toy_runs import Follower, run_of
from metabench import Budget, Diverged
from metabench.worker.evaluation import evaluate, score_tasks
from metabench.worker.training import train


class NumberLearner(Follower):
    """Predicts 0 for every task, so that tasks of other constants have other errors."""

    def predict(self, state: Tensor, query_x: Tensor) -> Tensor:
        return torch.zeros_like(query_x) + 0 * self.module.offset


def test_best_state_by_validation_is_scored() -> None:
    offsets = [3.0, 0.5, 2.0, 4.0]
    learner = Follower(offsets=offsets)
    run = run_of(learner, Budget(steps=4, tasks=2, validate_every=1, validation_tasks=5))
    train(run)
    assert run.training.best_step == 2
    assert [v.mean for v in run.training.validations] == pytest.approx([o**2 for o in offsets])
    scores = evaluate(run)
    assert scores.per_task == pytest.approx([0.25] * 10)
    assert scores.state == "best validation, step 2"


@pytest.mark.parametrize(("tasks", "quantile"), [(2, 12.7062), (30, 2.0452)])
def test_half_width_of_a_validation_is_that_of_a_t_interval(tasks: int, quantile: float) -> None:
    run = run_of(NumberLearner(), Budget(steps=1, tasks=1, validate_every=1, validation_tasks=tasks))
    scores = np.array(score_tasks(run, "validation", tasks).per_task)

    train(run)

    (validation,) = run.training.validations
    assert scores.std() > 0
    assert validation.half_width == pytest.approx(quantile * scores.std(ddof=1) / tasks**0.5, rel=1e-4)


def test_without_validation_the_last_state_is_scored() -> None:
    run = run_of(Follower(offsets=[3.0, 0.5]), Budget(steps=2, tasks=2))
    train(run)
    assert evaluate(run).state == "last"


def test_loss_that_is_no_number_ends_training_and_keeps_what_was_measured() -> None:
    run = run_of(Follower(losses=[1.0] * 30 + [math.nan] * 70), Budget(steps=100, tasks=2))
    with pytest.raises(Diverged, match="loss is nan"):
        train(run)
    assert 30 < run.training.steps < 100
    assert run.training.losses[0] == (1, 1.0)


def test_validation_score_that_is_no_number_ends_training() -> None:
    run = run_of(Follower(offsets=[math.nan, 1.0]), Budget(steps=2, validate_every=1, validation_tasks=4))
    with pytest.raises(Diverged, match="validation score is nan after 1 steps"):
        train(run)
    assert run.training.best_step is None


def test_target_ends_training_and_is_noted_with_its_time() -> None:
    offsets = [1 / (step + 1) for step in range(50)]
    run = run_of(
        Follower(offsets=offsets),
        Budget(steps=50, tasks=2, validate_every=5, validation_tasks=5, target=0.011),
    )
    train(run)
    assert run.training.ended_by == "target"
    assert run.training.target_step == 10
    assert run.training.target_seconds == run.training.seconds


def test_seconds_end_training() -> None:
    run = run_of(Follower(), Budget(steps=10**6, tasks=2, seconds=0.2))
    train(run)
    assert run.training.ended_by == "seconds"
    assert 0.2 <= run.training.seconds < 5


def test_patience_ends_training_after_so_many_validations_without_a_new_best() -> None:
    offsets = [3.0, 2.0, 0.5, 0.5, 0.7, 0.9, 0.1, 0.1]  # the fourth equals the best, and is no new one
    budget = Budget(steps=8, tasks=2, validate_every=1, validation_tasks=5, patience=3)
    run = run_of(Follower(offsets=offsets), budget)

    train(run)

    assert (run.training.ended_by, run.training.steps, run.training.best_step) == ("patience", 6, 3)
    assert evaluate(run).per_task == pytest.approx([0.25] * 10)


def test_patience_is_counted_anew_from_each_best_validation() -> None:
    offsets = [3.0, 4.0, 2.0, 4.0, 1.0, 4.0]
    budget = Budget(steps=6, tasks=2, validate_every=1, validation_tasks=5, patience=2)
    run = run_of(Follower(offsets=offsets), budget)

    train(run)

    assert (run.training.ended_by, run.training.steps) == ("steps", 6)


def test_images_end_training_with_the_step_that_reaches_them() -> None:
    learner = Follower()
    run = run_of(learner, Budget(steps=100, tasks=2))
    per_step = run.cell.step_images
    run.cell = replace(run.cell, budget=replace(run.cell.budget, images=7 * per_step - 1))

    train(run)

    assert per_step == 2 * 1 * (run.cell.train.shots + run.cell.train.queries)  # type: ignore[union-attr]
    assert (run.training.ended_by, run.training.steps, run.training.tasks) == ("images", 7, 14)


def test_no_budget_leaves_the_learner_untrained() -> None:
    learner = Follower()
    run = run_of(learner, Budget(steps=0))
    train(run)
    assert learner.parameters()[0].item() == 1.0
    assert evaluate(run).per_task == pytest.approx([1.0] * 10)
