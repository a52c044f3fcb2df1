"""What a data set says of itself before it is loaded: its facts, and what is absent."""

from __future__ import annotations

from unittest import SkipTest

from metabench.contracts import Dataset
from metabench.device.device import Device
from metabench.errors import DataError, MetabenchError
from metabench.records.cell import SPLITS, Facts
from metabench.testing.contract_error import Subject

LEAST_TASKS = 6
"""Tasks that the checks draw from each split."""


def check_missing(dataset: Dataset, subject: Subject) -> str | None:
    """Check `missing()` and that absent data is refused; return what is absent."""
    with subject.doing("missing()"):
        absent = dataset.missing()
    subject.require(
        absent is None or (isinstance(absent, str) and bool(absent.strip())),
        f"missing() must return None, or what is absent and the command that fetches it, got {absent!r}",
    )
    if absent is not None:
        with subject.refusing("load(device) without its data", DataError, "missing() reports absent data"):
            dataset.load(Device())
    return absent


def check_facts(dataset: Dataset, subject: Subject, absent: str | None) -> Facts:
    """Check and return `describe()`; raise SkipTest where it needs data that is absent."""
    try:
        facts = dataset.describe()
    except MetabenchError:
        if absent is None:
            raise
        raise SkipTest(f"{subject.title}: {absent}") from None
    subject.require(isinstance(facts, Facts), f"describe() must return metabench.Facts, got {facts!r}")
    subject.require(
        facts.kind in ("classification", "regression"),
        f"describe().kind must be 'classification' or 'regression', got {facts.kind!r}",
    )
    subject.require(
        isinstance(facts.input_shape, tuple) and all(isinstance(n, int) and n > 0 for n in facts.input_shape),
        "describe().input_shape must be a tuple of one example's sizes, without batch axes, got "
        f"{facts.input_shape!r}",
    )
    subject.require(
        (facts.outputs is None) == (facts.kind == "classification"),
        f"describe().outputs must be a regression target's width, None for classes, got {facts.outputs!r}",
    )
    known = [split for split in facts.classes if split in SPLITS]
    subject.require(
        known == list(facts.classes) and "test" in known and set(facts.images) == set(facts.classes),
        f"describe() has the splits {list(facts.classes)} with images of {list(facts.images)}; both name "
        f"'test' and any of {', '.join(SPLITS)} (0 where classes or images are endless)",
    )
    for split, count in facts.tasks.items():
        subject.require(
            split in facts.classes and type(count) is int and count >= LEAST_TASKS,
            f"describe().tasks must give splits their number of official tasks, {LEAST_TASKS} at least, got "
            f"{split!r}: {count!r}",
        )
    named = all(isinstance(names, tuple) for names in facts.groups.values())
    subject.require(
        named and set(facts.groups) <= set(facts.classes),
        f"describe().groups must give splits their groups in a tuple, got {facts.groups!r}",
    )
    return facts
