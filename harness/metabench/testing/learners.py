"""`check_learner`: the contract of every algorithm's learner, checked on tiny tasks in float64."""

from __future__ import annotations

import copy
import dataclasses
import io
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metabench.contracts import Algorithm, Dataset, Episodes, Examples, Learner, Network
from metabench.data.order import draw_episodes
from metabench.device.device import Device
from metabench.errors import CellEnd, Invalid, MetabenchError
from metabench.learning.losses import some_tasks
from metabench.records.cell import Batches, Protocol
from metabench.testing.contract_error import Subject, begin
from metabench.testing.fakes import CLASSIFICATION, REGRESSION, TinyClasses, TinyCurves, TinyNetwork
from metabench.testing.learner_bench import STEPS, TASKS, Bench, flat, relative_error, same_state, snapshot
from metabench.testing.pretended_device import check_no_strays

STALE = 7.0


def check_learner(
    algorithm: Algorithm | type[Algorithm],
    network: Network | None = None,
    *,
    dataset: Dataset | None = None,
    test: Protocol | None = None,
    exact_gradient: bool = True,
    tolerance: float = 1e-8,
    device: Device | None = None,
) -> None:
    """Check an algorithm's learner against its whole contract, on every kind of data that it learns from.

    network, dataset, test: what to build it for instead of the tiny ones (a tiny network with and without
    batch norm; classification and regression as `kinds` says); exact_gradient: False where `.grad` is by
    design not the gradient of the losses that `learn` returns (first-order, implicit, Reptile), which
    leaves out the finite differences alone; tolerance: relative difference at which two results that are
    the same in theory count as the same (more for a solver that stops early); device: another one than the
    CPU in float64.

    Raises ContractError with what is wrong and what to do; SkipTest where it cannot run here.
    """
    algorithm, subject = begin("algorithm", algorithm)
    device = device or Device(dtype=torch.float64)
    datasets = [dataset] if dataset else [_DATA[kind]() for kind in sorted(algorithm.kinds)]
    for data in datasets:
        protocol = test or (REGRESSION if data.describe().kind == "regression" else CLASSIFICATION)
        networks: Sequence[Network | None] = [network]
        if network is None and algorithm.needs_network:
            networks = [TinyNetwork(), TinyNetwork(batch_norm=True)]
        for number, tried in enumerate(networks):
            title = f"{subject.title} on {data.name}" + (f" with {tried}" if tried else "")
            bench = Bench(Subject(title), algorithm, tried, data, protocol, device, tolerance)
            checks = CHECKS if number == 0 else WITH_BATCH_NORM
            for check in (*checks, *([check_finite_differences] if exact_gradient else [])):
                check(bench)


_DATA: dict[str, type[Dataset]] = {"classification": TinyClasses, "regression": TinyCurves}


def check_build(bench: Bench) -> None:
    """Check that parameters are the same tensors at each call, on the device, in its type."""
    learner, subject = bench.learner(), bench.subject
    parameters = list(learner.parameters())
    subject.require(
        [id(p) for p in parameters] == [id(p) for p in learner.parameters()],
        "parameters() returns other tensors at the second call; return the same, in a fixed order",
    )
    if not bench.trained:
        subject.require(
            not parameters,
            "train_protocol returns None, so nothing is trained, but parameters() is not empty",
        )
    for number, parameter in enumerate(parameters):
        place = parameter.device.type, parameter.dtype
        subject.require(
            place == (bench.device.torch.type, bench.device.dtype),
            f"parameter {number} must be {bench.device.dtype} on {bench.device.torch}, got {parameter.dtype} "
            f"on {parameter.device}: call .to(device.torch, device.dtype) on modules and tensors in build",
        )


def check_equal_seeds(bench: Bench) -> None:
    """Check that two learners of a seed compute the same, whatever the state of torch's own RNG."""

    def outcome() -> tuple[list[Tensor], Tensor]:
        learner = bench.learner()
        if bench.trained:
            bench.train(learner)
        bench.finish(learner)
        return [p.detach().clone() for p in learner.parameters()], bench.predict(learner, bench.tasks())

    before = torch.get_rng_state()
    first = outcome()
    untouched = torch.equal(before, torch.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(99)
        second = outcome()
    same = all(torch.equal(a, b) for a, b in zip(first[0], second[0], strict=True))
    bench.subject.require(
        same and relative_error(first[1], second[1]) == 0,
        "two learners built with the same seed end with other weights or predictions: after build, draw from "
        "a torch.Generator seeded with workload.seed, never from torch's own generator",
    )
    bench.subject.require(
        untouched,
        "learn, update, finish, adapt or predict draws from torch's own generator, so that other code "
        "changes its results: draw from a torch.Generator seeded with workload.seed",
    )


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


def check_adapting(bench: Bench) -> None:
    """Check that `adapt` and `predict` change nothing, leave no `.grad`, and need no autograd."""
    learner, tasks, subject = bench.learner(), bench.tasks(), bench.subject
    bench.finish(learner)
    for parameter in learner.parameters():
        parameter.grad = None
    before, inputs = snapshot(learner), copy.deepcopy(tuple(tasks.support))
    with subject.doing("adapt and predict where autograd records"), torch.enable_grad():
        recorded = learner.predict(learner.adapt(tasks.support), tasks.query.x).detach()
    with torch.no_grad(), subject.doing("adapt and predict under torch.no_grad()"):
        unrecorded = learner.predict(learner.adapt(tasks.support), tasks.query.x)
    subject.require(
        not unrecorded.requires_grad,
        "a prediction made under torch.no_grad() requires a gradient: detach what adapt recorded",
    )
    subject.require(
        all(p.grad is None for p in learner.parameters()),
        "adapt or predict leaves a .grad behind: use torch.autograd.grad instead of backward",
    )
    subject.require(
        same_state(before, snapshot(learner)),
        "adapt or predict changes the learner: the next task would start from other weights; work on copies",
    )
    subject.require(
        all(torch.equal(a, b) for a, b in zip(inputs, tasks.support, strict=True)),
        "adapt changes the support set in place; work on copies",
    )
    bench.require_equal(
        recorded, unrecorded, "predictions differ where autograd records and where it does not"
    )
    bench.predict(learner, tasks, steps=2)  # the harness asks for a curve over steps


def check_labels(bench: Bench) -> None:
    """Check that query labels change no prediction, nor does learning on them beforehand."""
    learner, tasks = bench.learner(), bench.tasks()
    bench.finish(learner)
    n = tasks.support.y.shape[1]

    def predicted(query_y: Tensor) -> Tensor:
        labels = torch.cat([tasks.support.y, query_y], 1)  # support labels are a view of the whole task's
        view = Episodes(
            Examples(tasks.support.x, labels[:, :n]), Examples(tasks.query.x, labels[:, n:]), *tasks[2:]
        )
        if isinstance(bench.workload.train, Protocol):
            bench.learn(learner, view)
        return bench.predict(learner, view)

    canary = tasks.query.y.flip(1) + (1000.0 if tasks.query.y.is_floating_point() else 0)
    bench.require_equal(
        predicted(tasks.query.y), predicted(canary),
        "a canary in the query labels changes predictions: adapt and predict must not reach them, neither "
        "through the support labels' storage nor by remembering the batch of learn",
    )  # fmt: skip


def check_support_labels(bench: Bench) -> None:
    """Other labels of the same support inputs give other predictions, unless the support changes nothing.

    A learner that takes the labels from the places of the support examples answers by their order.
    """
    learner, tasks = bench.learner(), bench.tasks()
    bench.finish(learner)
    x, y = tasks.support
    relabelled = y + 1 if y.is_floating_point() else (y + 1) % bench.test.ways
    before = bench.predict(learner, tasks)
    with_labels = bench.predict(learner, tasks._replace(support=Examples(x, relabelled)))
    with_inputs = bench.predict(learner, tasks._replace(support=Examples(x.roll(1, 0), y)))
    bench.subject.require(
        not torch.equal(before, with_labels) or torch.equal(before, with_inputs),
        "predictions do not change with the support set's labels, though they do with its inputs: take the "
        "classes from support.y, never from the order of the examples, which is drawn for each task",
    )


def check_transduction(bench: Bench) -> None:
    """Check that permuted queries have permuted predictions, and split queries the claimed ones."""
    learner, tasks, subject = bench.learner(), bench.tasks(), bench.subject
    bench.finish(learner)
    whole = bench.predict(learner, tasks)
    queries = tasks.query.x
    order = torch.randperm(queries.shape[1], generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        state = learner.adapt(tasks.support)
        permuted = bench.predict_from(learner, state, queries[:, order])
        third = queries.shape[1] // 3
        parts = [bench.predict_from(learner, state, part) for part in torch.split(queries, third, 1)]
    bench.require_equal(
        permuted, whole[:, order],
        "permuted queries do not have permuted predictions: a prediction depends on a query's place, which "
        "reveals its class",
    )  # fmt: skip
    error = relative_error(torch.cat(parts, 1), whole)
    if learner.transductive:
        subject.require(
            error > bench.tolerance,
            "transductive is True, but queries alone are predicted as they are together: set it to False, "
            "or only where the network has batch statistics",
        )
    else:
        subject.require(
            error <= bench.tolerance,
            f"transductive is False, but a query's prediction changes by {error:.1e} with the other queries "
            "of its task (as by batch norm): set transductive = True, or normalise by the support set",
        )


def check_state(bench: Bench) -> None:
    """Check that a saved state, restored in a fresh learner, predicts and trains on as the first did."""
    learner, subject = bench.learner(), bench.subject
    if bench.trained:
        bench.train(learner)
    with subject.doing("state_dict()"):
        saved = io.BytesIO()
        torch.save(learner.state_dict(), saved)
    with subject.doing("reading state_dict() back as tensors and plain values (torch.load, weights_only)"):
        saved.seek(0)
        state = torch.load(saved, weights_only=True)
    other = bench.learner()
    with subject.doing("load_state_dict(state)"):
        other.load_state_dict(copy.deepcopy(state))
    title = "a fresh learner with the state restored by load_state_dict"
    _compare(
        bench, learner, other, f"{title} predicts otherwise: state_dict must hold all that training changed"
    )
    if not bench.trained:
        return
    bench.train(learner, first=2)
    bench.train(other, first=2)
    _compare(
        bench, learner, other, f"{title} trains on otherwise: state_dict must hold the optimizer and schedule"
    )
    with subject.doing("load_state_dict(state) at a later time"):
        learner.load_state_dict(copy.deepcopy(state))
    bench.train(learner, first=2)
    _compare(bench, learner, other, "a learner that went back to a saved state does not go on from there")


def _compare(bench: Bench, learner: Learner, other: Learner, what: str) -> None:
    bench.finish(learner)
    bench.finish(learner)  # the harness calls it before each validation
    bench.finish(other)
    bench.require_equal(bench.predict(learner, bench.tasks()), bench.predict(other, bench.tasks()), what)
    for a, b in zip(learner.parameters(), other.parameters(), strict=True):
        bench.require_equal(a.detach(), b.detach(), what)


def check_places(bench: Bench) -> None:
    """Check that every tensor is made on the device: finds here what a GPU would refuse."""
    check_no_strays(bench.subject, bench.run_all, bench.device.dtype)


def check_errors(bench: Bench) -> None:
    """Check that what cannot be built is refused with a reason, before training."""
    subject, algorithm = bench.subject, bench.algorithm
    if algorithm.needs_network:
        with subject.refusing("build without a network", CellEnd, "needs_network is True"):
            bench.build(network=None)
        with subject.refusing(
            "build with a network that refuses the input",
            Invalid,
            "the network's own Invalid must come through",
        ):
            bench.build(network=TinyNetwork(misfit=True))
    facts, train = bench.facts, bench.workload.train
    if isinstance(train, Batches):
        endless = dataclasses.replace(facts, classes=dict.fromkeys(facts.classes, 0))
        with subject.refusing(
            "build for endless classes", Invalid, "a classifier of all classes needs a finite number of them"
        ):
            bench.build(facts=endless)
    if isinstance(train, Protocol) and facts.kind == "classification":
        wider = Protocol(bench.test.ways + 1, bench.test.shots, bench.test.queries)
        try:
            learner = bench.build(train=wider)
        except MetabenchError:
            return
        with subject.doing(
            "learn on tasks of more ways than the test's, which build accepted (else raise metabench.Invalid)"
        ):
            learner.learn(draw_episodes(bench.source, "train", wider, range(TASKS), seed=5), 0, STEPS)


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


CHECKS: tuple[Callable[[Bench], None], ...] = (
    check_build, check_equal_seeds, check_learning, check_adapting, check_single_tasks, check_ranks,
    check_labels, check_support_labels, check_transduction, check_state, check_places, check_errors,
)  # fmt: skip
WITH_BATCH_NORM = (check_single_tasks, check_adapting, check_transduction)
"""Checks that batch norm can change; the others ran with the first network."""
