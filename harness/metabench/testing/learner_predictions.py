"""What a learner's predictions may depend on: the checks of `adapt` and `predict`."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from metabench.contracts import Episodes, Examples
from metabench.records.outputs import OUTPUTS
from metabench.records.protocol import Protocol
from metabench.testing.learner_bench import Bench, relative_error, same_state, snapshot

SUMS_TO_ONE = 1e-5
"""By how much the logarithm of the sum of a query's probabilities may differ from 0."""


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


def check_outputs(bench: Bench) -> None:
    """Check that predictions are of the type that the learner states, as far as they show it."""
    learner, subject, kind = bench.learner(), bench.subject, bench.facts.kind
    outputs = learner.outputs
    subject.require(outputs in OUTPUTS, f"outputs must be one of {', '.join(OUTPUTS)}, got {outputs!r}")
    subject.require(
        (outputs == "values") == (kind == "regression"),
        f"outputs is {outputs!r} on data of {kind}: regression has 'values', classification has "
        "'log-probabilities', 'logits', or 'scores' that mean no probability",
    )
    stated = bench.algorithm.predicts(kind)
    subject.require(
        stated in (None, outputs),
        f"predicts({kind!r}) of the algorithm states {stated!r}, its learner outputs {outputs!r}",
    )
    if bench.trained:
        bench.train(learner)
    bench.finish(learner)
    prediction = bench.predict(learner, bench.tasks())
    if outputs == "log-probabilities":
        error = float(prediction.logsumexp(2).abs().max())
        subject.require(
            error <= SUMS_TO_ONE,
            f"outputs is 'log-probabilities', but their exponentials sum to one only up to {error:.1e} in "
            "logarithms: apply log_softmax, or state 'logits' or 'scores'",
        )
    if outputs in ("logits", "scores") and bench.test.ways > 1:
        sums = prediction.sum(2)
        are_probabilities = bool((prediction >= 0).all()) and torch.allclose(sums, torch.ones_like(sums))
        subject.require(
            not are_probabilities,
            f"outputs is {outputs!r}, but predictions are probabilities, which sum to one over the classes: "
            "return their logarithms, and state 'log-probabilities'",
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
