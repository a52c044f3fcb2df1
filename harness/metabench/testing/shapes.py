"""Checks of tasks whose classes have different shots, and of learners whose tasks have different ways."""

from __future__ import annotations

import dataclasses

import torch

from metabench.contracts import Source
from metabench.data.order import draw_episodes
from metabench.data.shapes import shape_of
from metabench.errors import Invalid
from metabench.records.cell import Split
from metabench.records.protocol import Protocol, UnevenProtocol, VariedProtocol
from metabench.testing.contract_error import Subject
from metabench.testing.learner_bench import TASKS, Bench

NUMBERS = range(6)


def check_uneven(subject: Subject, source: Source, split: Split, protocol: Protocol) -> None:
    """Check that tasks whose classes have different shots have just these, or are refused with Invalid."""
    if protocol.ways < 2:
        return
    shots = (protocol.shots, *[protocol.shots + 1] * (protocol.ways - 1))
    shape = UnevenProtocol(protocol.ways, protocol.shots + 1, protocol.queries, shots)
    try:
        with subject.doing(f"episodes({split!r}, {shape}, …)", Invalid):
            support = source.episodes(split, shape, NUMBERS, 1).support
    except Invalid:
        return
    for y in support.y:
        counts = torch.bincount(y, minlength=protocol.ways).tolist()
        subject.require(
            counts == list(shots),
            f"the classes of a task must have {list(shots)} support examples where the protocol is {shape}, "
            f"got {counts}: raise metabench.Invalid for an UnevenProtocol that cannot be drawn",
        )


def check_shape(subject: Subject, source: Source, split: Split, protocol: Protocol) -> None:
    """Check that the shape of a task is a pure function, and within the ranges of its protocol."""
    varied = VariedProtocol(
        protocol.ways, protocol.shots + 1, protocol.queries,
        least_ways=1, least_shots=protocol.shots, least_queries=1,
    )  # fmt: skip
    with subject.doing(f"shape({split!r}, …)"):
        shapes = [shape_of(source, split, varied, number, 1) for number in NUMBERS]
        again = [shape_of(source, split, varied, number, 1) for number in reversed(NUMBERS)]
    subject.require(shapes == again[::-1], "shape gives another one at the second call: draw it by number")
    for shape in shapes:
        inside = shape.ways <= varied.ways and varied.least_shots <= shape.shots <= varied.shots
        subject.require(
            inside and not isinstance(shape, VariedProtocol) and shape.queries <= varied.queries,
            f"shape must return numbers within the ranges of {varied}, got {shape!r}",
        )


def check_ways(bench: Bench) -> None:
    """Check that a learner whose algorithm says `any_ways` takes tasks of fewer ways than the most."""
    if not bench.algorithm.any_ways or bench.facts.kind != "classification":
        return
    most = VariedProtocol(
        bench.test.ways, bench.test.shots, bench.test.queries,
        bench.test.ways - 1, bench.test.shots, bench.test.queries,
    )  # fmt: skip
    subject = bench.subject
    with subject.doing("build for tasks of different ways"):
        learner = bench.build(test=most)
    bench.finish(learner)
    for ways in (most.least_ways, most.ways):
        protocol = dataclasses.replace(bench.test, ways=ways)
        tasks = draw_episodes(bench.source, "test", protocol, range(TASKS), seed=11)
        with torch.no_grad(), subject.doing(f"adapt and predict on tasks of {ways} of {most.ways} ways"):
            prediction = learner.predict(learner.adapt(tasks.support), tasks.query.x)
        subject.require(
            prediction.shape == (*tasks.query.x.shape[:2], ways),
            f"any_ways is True, but a task of {ways} ways has predictions {tuple(prediction.shape)}: take "
            "the ways from support.y where workload.test has a range of them, or leave any_ways False",
        )
