"""Train here, test there: which data sets fit together, and what is known of their groups."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metabench.plugins import load
from metabench.records import Facts, Spec
from metabench.records.crossing import crossing_problem, overlap_is_known, shared_groups

SPLITS = ("train", "validation")
HERE = Facts(
    "classification", (1, 28, 28), None, {"train": 9, "validation": 3, "test": 3},
    groups={"train": ("script:Latin",), "validation": ("script:Greek",), "test": ("script:Thai",)},
)  # fmt: skip


def facts_of(*groups: str) -> Facts:
    return replace(HERE, groups={"test": groups})


def test_data_sets_of_one_shape_without_a_common_group_fit() -> None:
    assert crossing_problem(HERE, facts_of("script:Thai", "script:Korean"), SPLITS) is None
    assert overlap_is_known(HERE, facts_of("script:Korean"), SPLITS)


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (
            Facts("regression", (1,), 1),
            "must have the same kind as what it is trained on, classification, got",
        ),
        (replace(HERE, input_shape=(1, 32, 32)), "must have the same input shape"),
        (facts_of("script:LATIN", "script:Korean"), "both have script:LATIN"),
        (facts_of("script:greek"), "both have script:greek"),
    ],
)
def test_what_does_not_fit_is_named(there: Facts, says: str) -> None:
    assert says in str(crossing_problem(HERE, there, SPLITS))


def test_a_group_of_a_split_that_is_not_used_is_no_overlap() -> None:
    assert shared_groups(HERE, facts_of("script:Greek"), ("train",)) == []


@pytest.mark.parametrize(
    "there",
    [facts_of(), facts_of("alphabet:Korean"), facts_of("Korean"), replace(HERE, groups={})],
)
def test_overlap_is_unknown_without_names_of_one_vocabulary(there: Facts) -> None:
    assert crossing_problem(HERE, there, SPLITS) is None
    assert not overlap_is_known(HERE, there, SPLITS)
    assert not overlap_is_known(
        replace(HERE, groups={"train": ("script:Latin",)}), facts_of("script:Thai"), SPLITS
    )


def test_omniglot_small_is_clean_for_glyphs_and_the_whole_of_omniglot_is_not() -> None:
    registry = load()
    small, whole, lake, glyphs = (
        registry.make("dataset", Spec(name, settings)).describe()
        for name, settings in (
            ("omniglot-small", {}), ("omniglot", {}), ("omniglot", {"split": "lake"}), ("glyphs", {}),
        )
    )  # fmt: skip

    assert shared_groups(small, glyphs, SPLITS) == []
    assert overlap_is_known(small, glyphs, SPLITS)
    assert shared_groups(whole, glyphs, SPLITS) == ["script:Armenian", "script:Georgian"]
    assert "script:Armenian" in str(crossing_problem(lake, glyphs, SPLITS))
