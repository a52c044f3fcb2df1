"""Labels of a row: what a reader must know of its code, its training, its transduction and its times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.reports import content_of, shown, summary_of
from helpers.results import made_cell, made_result, untrained
from metabench.records.result import Validation
from metabench.report.labels import flags


def test_results_of_several_codes_are_no_seeds_of_one_method() -> None:
    codes = ({"harness": "a" * 64}, {"harness": "b" * 64}, {"harness": "b" * 64}, {})
    results = [made_result(made_cell("maml", seed), code=code) for seed, code in enumerate(codes)]

    summaries = content_of(results).summaries

    assert sorted(summary["seed_list"] for summary in summaries) == [[0], [1, 2], [3]]
    labels = [flags(summary).partition(";")[0] for summary in summaries]
    assert len(set(labels)) == 3
    assert "code not recorded" in labels
    assert sum(label.startswith("code ") for label in labels) == 3


def test_one_code_needs_no_label_and_an_older_contract_has_its_own() -> None:
    (today,) = content_of([made_result(made_cell("maml"))]).summaries
    (older,) = content_of([made_result(made_cell("maml"), contract=1, code={})]).summaries

    assert today["code_label"] == ""
    assert older["code_label"] == "contract 1; code not recorded"


def test_a_rising_curve_is_labelled_budget_limited() -> None:
    table = content_of([made_result(made_cell("a"), rising=True), made_result(made_cell("b"))])

    assert summary_of(table, "a")["budget_limited"]
    assert not summary_of(table, "b")["budget_limited"]
    assert "budget-limited" in shown(table)


def test_an_unwatched_training_is_labelled_budget_limited_and_no_training_is_not() -> None:
    result = made_result(made_cell("a"))
    assert result.training is not None
    unwatched = replace(result, training=replace(result.training, validations=()))
    table = content_of([unwatched, untrained(made_cell("floor", steps=0), 0.4)])

    assert summary_of(table, "a")["limited_reason"] == "no validation curve"
    assert not summary_of(table, "floor")["budget_limited"]


def test_a_result_below_its_published_reference_is_labelled_and_told() -> None:
    table = content_of([made_result(made_cell("maml", dataset="omniglot"), 0.90)])

    assert summary_of(table, "maml")["limited_reason"] == "below every published reference"
    text = shown(table)
    source = "Finn et al. 2017 (quoted by Betty and FSL-Mate)"
    assert f"98.7 ± 0.4 % (paper: {source}): cannot tell (-8" in " ".join(text.split())


def test_a_result_within_the_tolerance_agrees_with_its_reference() -> None:
    result = made_result(made_cell("maml", dataset="fc100", shots=5), 0.50)

    text = " ".join(shown(content_of([result])).split())
    assert "50.4 ± 1.0 % (paper: few-shot-classification-leaderboard): agrees" in text


@pytest.mark.parametrize(
    ("claimed", "observed", "label"),
    [(True, True, "transductive"), (True, False, "transductive (claimed, not found)"),
     (True, None, "transductive (claimed, not checked)"), (False, True, "transductive (found, not claimed)"),
     (False, None, "transduction not checked"), (False, False, "–")],
)  # fmt: skip
def test_what_is_claimed_of_transduction_and_what_was_found_are_told_apart(
    claimed: bool, observed: bool | None, label: str
) -> None:
    result = made_result(made_cell("a", test_tasks=20))
    assert result.scores is not None
    table = content_of(
        [replace(result, scores=replace(result.scores, transductive=claimed, transductive_found=observed))]
    )

    assert flags(table.summaries[0]) == label


def test_a_target_that_was_reached_does_not_stand_for_a_flat_curve() -> None:
    reached = made_result(made_cell("a", target=0.6), rising=True)
    assert reached.training is not None
    ended = replace(reached, training=replace(reached.training, ended_by="target"))
    missed = made_result(made_cell("b", target=0.9))
    enough = made_result(made_cell("c", target=0.6))
    table = content_of([reached, missed, enough])

    assert summary_of(table, "a")["limited_reason"] == "validation still moving"
    assert summary_of(content_of([ended]), "a")["limited_reason"] == "ended at its target"
    assert summary_of(table, "b")["limited_reason"] == "target not reached"
    assert summary_of(table, "c")["limited_reason"] == ""


def test_unstable_times_are_labelled() -> None:
    table = content_of([made_result(made_cell("a"), unsteady=True), made_result(made_cell("b"))])

    assert summary_of(table, "a")["unstable"]
    assert not summary_of(table, "b")["unstable"]


def test_validation_within_its_interval_counts_as_flat() -> None:
    result = made_result(made_cell("a"), 0.7)
    assert result.training is not None
    drifting = tuple(
        Validation(step, step * 0.02, 0.7 + 0.00008 * step * move, 0.02)
        for step in range(50, 401, 50)
        for move in (1,)
    )
    for scale, flat in ((1.0, True), (5.0, False)):
        moved = tuple(replace(v, mean=0.7 + (v.mean - 0.7) * scale) for v in drifting)
        table = content_of([replace(result, training=replace(result.training, validations=moved))])
        assert table.rows[0]["flat"] is flat
