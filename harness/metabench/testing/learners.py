"""`check_learner`: the contract of every algorithm's learner, checked on tiny tasks in float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metabench.contracts import Algorithm, Dataset, Network
from metabench.data.order import draw_episodes
from metabench.device.device import Device
from metabench.errors import CellEnd, Invalid, MetabenchError
from metabench.records.protocol import Batches, Protocol
from metabench.testing.contract_error import Subject, begin
from metabench.testing.fakes import CLASSIFICATION, REGRESSION, TinyClasses, TinyCurves, TinyNetwork
from metabench.testing.learner_bench import STEPS, TASKS, Bench, relative_error
from metabench.testing.learner_gradients import (
    check_finite_differences,
    check_learning,
    check_ranks,
    check_single_tasks,
)
from metabench.testing.learner_predictions import (
    check_adapting,
    check_labels,
    check_outputs,
    check_support_labels,
    check_transduction,
)
from metabench.testing.learner_states import check_state, check_training_state
from metabench.testing.pretended_device import check_no_strays
from metabench.testing.shapes import check_ways


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


def check_deterministic(bench: Bench) -> None:
    """Check that an algorithm which says so gives the same predictions for every seed."""
    if not bench.algorithm.deterministic:
        return
    bench.subject.require(
        not bench.trained,
        "it is said to be deterministic, but trains on tasks that the seed draws: leave `deterministic` out",
    )
    other = dataclasses.replace(bench.workload, seed=bench.workload.seed + 1)
    with bench.subject.doing("build with another seed"), torch.random.fork_rng():
        torch.manual_seed(other.seed)
        learner = bench.algorithm.build(other, bench.network, bench.device)
    same = relative_error(
        bench.predict(bench.learner(), bench.tasks()), bench.predict(learner, bench.tasks())
    )
    bench.subject.require(
        same == 0,
        "it is said to be deterministic, but another seed gives other predictions: leave `deterministic` out",
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


CHECKS: tuple[Callable[[Bench], None], ...] = (
    check_build, check_equal_seeds, check_deterministic, check_learning, check_adapting,
    check_single_tasks, check_ranks, check_labels, check_support_labels, check_outputs, check_transduction,
    check_ways, check_state, check_training_state, check_places, check_errors,
)  # fmt: skip
WITH_BATCH_NORM = (check_single_tasks, check_adapting, check_transduction)
"""Checks that batch norm can change; the others ran with the first network."""
