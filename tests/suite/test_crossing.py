"""A suite that trains on one data set and tests on another."""

from helpers.suites import GLYPHS, HEAD, Reader, mistakes
from metabench.records import Cell


def test_a_data_set_to_test_on_is_part_of_the_cell(suite_of: Reader) -> None:
    small = GLYPHS.replace('"glyphs"', '"omniglot-small"')

    (cell,) = suite_of(HEAD + small + 'test_dataset = "glyphs"').cells
    (plain,) = suite_of(HEAD + small).cells

    assert cell.test_dataset is not None
    assert (cell.tested.name, cell.data_text) == ("glyphs", "omniglot-small → glyphs")
    assert "-omniglot-small-to-glyphs-5w1s-" in cell.id
    assert cell.plugins["test_dataset"] == cell.plugins["dataset"]
    assert cell.key(["test_dataset", "plugins"]) == plain.key(["plugins"])
    assert Cell.from_json(cell.to_json()) == cell


def test_a_data_set_that_is_named_for_both_is_the_same_cell_as_without(suite_of: Reader) -> None:
    (cell,) = suite_of(HEAD + GLYPHS + 'test_dataset = {name = "glyphs", images = 24}').cells

    assert cell.test_dataset is None
    assert cell.digest == suite_of(HEAD + GLYPHS).cells[0].digest


def test_a_data_set_to_test_on_must_fit(suite_of: Reader) -> None:
    whole = GLYPHS.replace('"glyphs"', '"omniglot"') + 'test_dataset = "glyphs"'
    few = GLYPHS + 'test_dataset = {name = "omniglot-small", size = 32}'

    (shared,) = mistakes(suite_of, HEAD + whole)
    (shape,) = mistakes(suite_of, HEAD + few)

    assert "cells[1].test_dataset must hold no group that is trained on, both have script:Georgian" in shared
    assert "must have the same input shape as what it is trained on, (1, 28, 28), got (1, 32, 32)" in shape
