"""What tells the cells of a suite apart in the list of a dry run and in lines of progress."""

from __future__ import annotations

from dataclasses import replace

from helpers.results import made_cell
from metabench.records import Protocol, Spec
from metabench.records.apart import settings_apart


def test_cells_that_their_names_tell_apart_need_no_more() -> None:
    cells = [made_cell("maml"), made_cell("maml", seed=1), made_cell("reptile"), made_cell("maml", ways=20)]

    assert set(settings_apart(cells).values()) == {""}


def test_settings_that_differ_in_the_suite_are_named() -> None:
    slow, quick = (made_cell("maml", settings={"inner_rate": rate, "steps": 5}) for rate in (0.1, 0.4))
    elsewhere = made_cell("maml", settings={"inner_rate": 0.1, "steps": 5}, ways=20)
    other = made_cell("reptile", settings={"inner_rate": 0.02})

    texts = settings_apart([slow, quick, elsewhere, other])

    assert texts[slow.digest] == texts[elsewhere.digest] == "inner_rate=0.1"
    assert texts[quick.digest] == "inner_rate=0.4"
    assert texts[other.digest] == ""


def test_budgets_protocols_and_data_are_named_where_names_are_the_same() -> None:
    plain = made_cell("maml", steps=400)
    longer = made_cell("maml", steps=800)
    wide = replace(plain, train=Protocol(20, 1, 15))

    texts = settings_apart([plain, longer, wide])

    assert texts[plain.digest] == "train.ways=5, budget.steps=400"
    assert texts[longer.digest] == "train.ways=5, budget.steps=800"
    assert texts[wide.digest] == "train.ways=20, budget.steps=400"


def test_settings_that_are_called_like_a_field_of_a_cell_are_named() -> None:
    digits, styles = (
        replace(made_cell("maml"), dataset=Spec("table", {"label": column})) for column in ("digit", "style")
    )
    other_tasks = replace(digits, evaluation=replace(digits.evaluation, seed=1))

    texts = settings_apart([digits, styles, other_tasks])

    assert "dataset.label=digit" in texts[digits.digest]
    assert "dataset.label=style" in texts[styles.digest]
    assert "evaluation.seed=1" in texts[other_tasks.digest]
