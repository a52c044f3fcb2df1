"""Cells: what makes two of them the same, what they are made of, and how they may end."""

import json
from dataclasses import dataclass, field, make_dataclass, replace
from typing import Any

import pytest

from helpers.results import made_cell
from metabench import Component, setting
from metabench.records import Batches, Budget, Cell, Protocol, Result, Spec, Status
from metabench.records.protocol import VariedProtocol
from metabench.settings import at_default


def test_a_digest_counts_what_is_no_default_and_no_annotation() -> None:
    cell = made_cell()

    assert cell.digest == cell.key()
    assert replace(cell, group="other", label="x", expect=("failed",)).digest == cell.digest
    assert json.loads(cell._parts["evaluation"]) == {"metric": "accuracy"}
    assert json.loads(cell._parts["budget"]) == {"steps": 400, "tasks": 16, "validate_every": 50}
    assert not {"test_dataset", "weights", "scored", "tuning"} & cell._parts.keys()


@pytest.mark.parametrize(
    "change",
    [
        {"budget": replace(made_cell().budget, patience=3)},
        {"budget": replace(made_cell().budget, images=10_000)},
        {"evaluation": replace(made_cell().evaluation, predictions=True)},
        {"evaluation": replace(made_cell().evaluation, metrics=(Spec("nll"),))},
        {"test_dataset": Spec("blobs")},
        {"weights": "0" * 64},
        {"scored": "0" * 64},
        {"tuning": {"best": 3}},
    ],
)
def test_every_field_that_is_set_makes_another_cell_and_reads_back(change: dict[str, Any]) -> None:
    cell = replace(made_cell(), **change)

    assert cell.digest != made_cell().digest
    assert Cell.from_json(cell.to_json()) == cell


@dataclass(frozen=True, kw_only=True)
class Older(Component):
    """A component."""

    name = "maml"
    rate: float = setting(0.1, "step size")


@dataclass(frozen=True, kw_only=True)
class Newer(Older):
    """The same component with a setting that was added later."""

    halves: tuple[int, ...] = setting((1, 2), "steps")


def test_a_setting_that_is_added_with_a_default_leaves_the_digest_of_stored_cells() -> None:
    stored = replace(made_cell(), algorithm=Spec.of(Older, {"rate": 0.5}))
    silent, spoken, other = (
        replace(stored, algorithm=Spec.of(Newer, {"rate": 0.5, **given}))
        for given in ({}, {"halves": [1, 2]}, {"halves": [1]})
    )

    assert spoken.algorithm.settings["halves"] == [1, 2]
    assert stored.digest == silent.digest == spoken.digest != other.digest
    assert Cell.from_json(silent.to_json()).digest == stored.digest


def test_a_field_that_is_added_with_a_default_leaves_the_digest() -> None:
    later = make_dataclass("Later", [("words", int, field(default=0))], bases=(Budget,), frozen=True)
    cell = made_cell()
    budget = vars(cell.budget)

    assert replace(cell, budget=later(**budget)).digest == cell.digest
    assert replace(cell, budget=later(**budget, words=1)).digest != cell.digest


def test_ranges_from_one_are_no_plain_protocol() -> None:
    ranges = replace(made_cell(), test=VariedProtocol(5, 1, 15))

    assert ranges.digest != made_cell().digest
    assert Cell.from_json(ranges.to_json()).digest == ranges.digest


def test_no_default_is_one_that_merely_compares_equal() -> None:
    assert Spec.of(Older, {"rate": 0.1}).defaults == ("rate",)
    assert at_default(Loose, {"value": True}) == ()
    assert at_default(Loose, {"value": 1}) == ("value",)


@dataclass(frozen=True, kw_only=True)
class Loose(Component):
    """A component with a setting of any type."""

    name = "loose"
    value: bool | int = setting(1, "anything")


def test_images_of_a_budget_plan_the_steps_that_see_so_many() -> None:
    cell = made_cell()  # 16 tasks of 5 · (1 + 15) images
    images = 16 * 80
    planned = [
        replace(cell, budget=replace(cell.budget, images=count)).planned_steps
        for count in (0, 1, images, images + 1, 10**9)
    ]

    assert cell.step_images == images
    assert planned == [400, 1, 1, 2, 400]
    assert replace(cell, train=Batches(64)).step_images == 64
    assert replace(cell, train=None, budget=replace(cell.budget, images=5)).planned_steps == 400


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("seed", {"seed": 5}),
        ("plugins", {"plugins": {"algorithm": "other 2.0"}}),
        ("plugins.dataset", {"plugins": {"algorithm": "metabench 0.1.0", "dataset": "other 2.0"}}),
        ("backend", {"backend": Spec("cuda")}),
        ("budget.steps", {"budget": replace(made_cell().budget, steps=7)}),
        ("test.ways", {"test": Protocol(20, 1, 15)}),
        ("network", {"network": None}),
    ],
)
def test_key_without_a_part_is_equal_for_cells_that_differ_in_it_alone(
    part: str, change: dict[str, Any]
) -> None:
    first, second = made_cell(), replace(made_cell(), **change)

    assert first.digest != second.digest
    assert first.key([part]) == second.key([part])
    assert first.key([part]) != replace(first, suite="other").key([part])


def test_key_without_the_size_of_batches_leaves_a_protocol_as_it_is() -> None:
    cell = made_cell()
    small, large = (replace(cell, train=Batches(size, micro=8)) for size in (32, 64))

    assert small.key(["train.size"]) == large.key(["train.size"]) != small.key()
    assert cell.key(["train.size"]) == cell.digest


def test_components_are_those_that_the_cell_has() -> None:
    cell = made_cell()

    assert list(cell.components()) == ["algorithm", "network", "dataset", "backend", "metric"]
    assert cell.components()["metric"] == Spec("accuracy")
    assert "network" not in replace(cell, network=None).components()


@pytest.mark.parametrize(("ranks", "count"), [(4, 4), (1, 1), (0, 1), (None, 1), (True, 1), ("two", 1)])
def test_ranks_are_those_of_the_backend_where_they_are_a_number(ranks: Any, count: int) -> None:
    assert replace(made_cell(), backend=Spec("mine", {"ranks": ranks})).ranks == count
    assert made_cell().ranks == 1


def test_protocols_and_batches_in_words() -> None:
    assert (Protocol(5, 1, 15).short, str(Protocol(5, 1, 15))) == ("5w1s", "5-way 1-shot")
    assert str(Protocol(1, 10, 10)) == "10-shot"
    assert str(Batches(64)) == "batches of 64"
    assert made_cell().suite_folder == "made-v1"


@pytest.mark.parametrize("status", Status)
def test_an_expected_status_is_final_and_not_bad(status: Status) -> None:
    cell = replace(made_cell(), budget=Budget())

    assert Result(replace(cell, expect=(status.value,)), status).final
    assert not Result(replace(cell, expect=(status.value,)), status).bad
    assert Result(cell, status).final is status.final
    assert Result(cell, status).bad is status.bad


def test_questions_about_a_status() -> None:
    def where(question: str) -> set[str]:
        return {status.value for status in Status if getattr(status, question)}

    assert where("final") == {"ok", "diverged", "out-of-memory"}
    assert where("measured") == {"ok", "diverged", "out-of-memory", "failed", "timed-out"}
    assert where("honest") == {"ok", "diverged", "skipped"}
    assert where("agreed") == {"diverged", "skipped", "invalid"}
    assert where("bad") == {"diverged", "out-of-memory", "invalid", "failed", "timed-out"}
