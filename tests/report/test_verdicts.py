"""Verdicts on published figures: their margins, what cannot be told, and whose training decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from helpers.reports import content_of
from helpers.results import made_cell, made_result
from metabench import Protocol, Result, Spec
from metabench.records.summary import Reference, Summary
from metabench.report import verdict

NETWORK = Spec("conv4", {"width": 64, "downsample": "pool", "readout": "flatten"})
OMNIGLOT = Spec("omniglot", {"split": "vinyals", "rotations": True, "size": 28})


def of_protonet(accuracy: float, ways: int = 20, **changes: Any) -> Result:
    """A result under the conditions of Snell et al."""
    cell = made_cell("protonet", settings={"statistics": "population"}, ways=ways)
    cell = replace(cell, network=NETWORK, dataset=OMNIGLOT, train=Protocol(60, 1, 5))
    return made_result(cell, accuracy, **changes)


def summaries(*results: Result) -> list[Summary]:
    return content_of(results).summaries


@pytest.mark.parametrize(
    ("published", "least"),
    [(0.96, 0.953), (0.90, 0.888), (0.70, 0.678)],
)
def test_the_margin_follows_the_published_figure_and_both_intervals_are_added(
    published: float, least: float
) -> None:
    (trained,) = summaries(of_protonet(0.9))
    reference = Reference(published, 0.001, "paper", "x")
    assert verdict(reference, least, 0.001, trained) == "agrees"
    assert verdict(reference, least - 0.001, 0.001, trained).startswith("lower by")
    assert verdict(reference, 1.0, 0.001, trained).startswith("higher by")


def test_what_still_rose_cannot_tell_and_says_the_budget_it_would_take() -> None:
    (trained,) = summaries(of_protonet(0.9, rising=True))
    words = verdict(Reference(0.96, None, "paper", "x"), 0.90, 0.001, trained)
    assert words.startswith("cannot tell (-6.0): needs at least 800 steps, about ")
    (flat,) = summaries(of_protonet(0.9))
    assert "needs at least 4,000 steps" in verdict(
        Reference(0.96, None, "paper", "x", steps=4000), 0.90, 0.0, flat
    )


def test_a_figure_from_memory_has_no_verdict() -> None:
    (trained,) = summaries(of_protonet(0.9))
    reference = Reference(0.9, None, "paper", "x", "memory")
    assert verdict(reference, 0.9, 0.0, trained) == "+0.0, no verdict: from memory"


def test_a_figure_from_memory_limits_no_budget() -> None:
    cell = replace(of_protonet(0.9).cell, algorithm=Spec("r2d2", {"statistics": "population"}))
    (summary,) = summaries(made_result(cell, 0.5))
    assert summary["verdicts"][0].endswith("no verdict: from memory")
    assert summary["limited_reason"] == ""


def test_a_kept_state_is_judged_by_the_training_that_made_it() -> None:
    trained = of_protonet(0.90, rising=True)
    cell = replace(trained.cell, test=Protocol(5, 1, 15), scored=trained.cell.digest, weights="0" * 64)
    result = made_result(cell, 0.95)
    assert result.scores is not None
    scored = replace(result, training=None, scores=replace(result.scores, state="kept"))

    (table,) = content_of([trained, scored]).sections(["replication"])

    lines = {line["ways"]: line["verdict"] for line in table.records}
    assert set(lines) == {5, 20}
    assert all(words.startswith("cannot tell (-") for words in lines.values())
    assert all("needs at least 800 steps, about 1 min" in words for words in lines.values())
    (alone,) = summaries(scored)
    assert alone["verdicts"][0].endswith("the training of its state is not among these results")
    assert "Of 2: 2 cannot tell." in table.notes
