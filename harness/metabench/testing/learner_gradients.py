"""What `learn` must leave in `.grad`: the mean gradient of the losses that it returns, task by task."""

from __future__ import annotations

import torch

from metabench.errors import Invalid
from metabench.learning.losses import some_tasks
from metabench.testing.learner_bench import STEPS, TASKS, Bench, flat, same_state, snapshot

STALE = 7.0


def check_learning(bench: Bench) -> None:
    """Check that `learn` overwrites `.grad` and nothing else, and that `update` works in place."""
    learner, subject = bench.learner(), bench.subject
    if not bench.trained:
        with subject.refusing("learn", Invalid, "train_protocol returns None: nothing is trained"):
            learner.learn(bench.tasks(), 0, STEPS)
        return
    parameters = list(learner.parameters())
    subject.require(
        bool(parameters),
        "parameters() is empty though train_protocol asks for training; give train_protocol None, or the "
        "tensors that training changes",
    )
    batch, before = bench.batch(), snapshot(learner)
    _, fresh = bench.learn(learner, batch)
    subject.require(
        same_state(before, snapshot(learner)),
        "learn changes the learner's state: ranks learn on different tasks and would drift apart; leave "
        "everything but .grad to update",
    )
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, STALE)
    _, stale = bench.learn(learner, batch)
    for gradient, over_stale in zip(fresh, stale, strict=True):
        bench.require_equal(
            gradient, over_stale,
            "learn leaves another gradient where .grad holds an old one: overwrite .grad, never add to it "
            "(set it to None before backward)",
        )  # fmt: skip
    bench.train(learner, 3)
    after = snapshot(learner)
    subject.require(
        any(not torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True)),
        "three updates changed no parameter: update must take an optimizer step from .grad",
    )
    subject.require(
        [id(p) for p in parameters] == [id(p) for p in learner.parameters()],
        "update replaces the tensors of parameters(); change them in place",
    )


def check_single_tasks(bench: Bench) -> None:
    """Check that a batch has the mean gradient, and the predictions, of its tasks in a plain loop."""
    learner = bench.learner()
    if bench.trained:
        batch = bench.batch()
        losses, whole = bench.learn(learner, batch)
        parts = [bench.learn(learner, some_tasks(batch, slice(t, t + 1))) for t in range(TASKS)]
        bench.require_equal(
            losses, torch.cat([loss for loss, _ in parts]),
            "a task's loss depends on the other tasks of its batch: compute each from its own examples",
        )  # fmt: skip
        looped = [torch.stack(gradients).mean(0) for gradients in zip(*(g for _, g in parts), strict=True)]
        bench.require_equal(
            flat(whole), flat(looped),
            "learn's .grad is not the mean of the gradients of the same tasks one at a time, in a plain "
            "loop: leave the mean over the tasks, not their sum, and no statistic over tasks",
        )  # fmt: skip
    bench.finish(learner)
    tasks = bench.tasks()
    alone = [bench.predict(learner, some_tasks(tasks, slice(t, t + 1))) for t in range(TASKS)]
    bench.require_equal(
        bench.predict(learner, tasks), torch.cat(alone),
        "a task's prediction depends on the other tasks of its batch: adapt each from its own support set",
    )  # fmt: skip


def check_ranks(bench: Bench) -> None:
    """Check that two ranks compute what one does: the weighted mean of their shards' gradients."""
    if not bench.trained:
        return
    learner, batch = bench.learner(), bench.batch()
    _, whole = bench.learn(learner, batch)
    _, first = bench.learn(learner, some_tasks(batch, slice(0, 1)))
    _, second = bench.learn(learner, some_tasks(batch, slice(1, TASKS)))
    both = [a / TASKS + b * (TASKS - 1) / TASKS for a, b in zip(first, second, strict=True)]
    bench.require_equal(
        flat(whole), flat(both),
        "two ranks do not compute what one does: the weighted mean of the gradients of two shards of a batch "
        "is not the gradient of the whole; learn must leave the mean over its own tasks",
    )  # fmt: skip


def check_finite_differences(bench: Bench) -> None:
    """Check that `.grad` is the derivative of the mean loss of `learn`, along a random direction."""
    if not bench.trained:
        return
    learner, batch = bench.learner(), bench.batch()
    _, grads = bench.learn(learner, batch)
    generator = torch.Generator().manual_seed(1)
    parameters = list(learner.parameters())
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p) for p in parameters]
    derivative = float(sum((g * d).sum() for g, d in zip(grads, directions, strict=True)))

    def mean_loss(step: float) -> float:
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(direction, alpha=step)
        loss = float(bench.learn(learner, batch)[0].mean())
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.sub_(direction, alpha=step)
        return loss

    step = 1e-7  # so small that hardly any ReLU switches on the way
    difference = (mean_loss(step) - mean_loss(-step)) / (2 * step)
    scale = max(abs(difference), 1e-3 * float(flat(grads).norm()), 1e-12)
    bench.subject.require(
        abs(difference - derivative) <= 1e-4 * scale,
        f"the meta-gradient is wrong: along a random direction .grad has {derivative:.6g}, finite "
        f"differences of the losses that learn returns have {difference:.6g}; differentiate through "
        "adaptation (create_graph=True), or check with exact_gradient=False where the method drops terms "
        "by design",
    )
