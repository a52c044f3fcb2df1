"""Cells: what makes two of them the same, what they are made of, and how they may end."""

from dataclasses import replace
from typing import Any

import pytest

from helpers.results import made_cell
from metabench.records import Batches, Budget, Protocol, Result, Spec, Status, digest_of
from metabench.records.cell import ANNOTATIONS


def test_key_without_nothing_is_the_digest_of_all_fields_but_the_annotations() -> None:
    cell = made_cell()
    fields = {name: getattr(cell, name) for name in cell.__dataclass_fields__ if name not in ANNOTATIONS}

    assert cell.key() == cell.digest == digest_of(fields)
    assert replace(cell, group="other", label="x", expect=("failed",)).digest == cell.digest


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
    small, large = (replace(cell, train=Batches(size)) for size in (32, 64))

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
