"""Protocols of a suite: ranges of ways, shots and queries."""

from dataclasses import replace

from helpers.suites import HEAD, Reader, mistakes
from metabench.records import Cell, Protocol, VariedProtocol

RANGES = """
[[cells]]
algorithm = {algorithm}
network = "conv4"
dataset = "glyphs"
test = {test}
"""


def test_ranges_of_ways_shots_and_queries_are_read(suite_of: Reader) -> None:
    test = '{ways = [5, 20], shots = [1, 10], queries = 10, sampling = "uneven"}'
    (cell,) = suite_of(HEAD + RANGES.format(algorithm='"protonet"', test=test)).cells

    assert cell.test == VariedProtocol(20, 10, 10, 5, 1, 10, "uneven")
    assert cell.train == cell.test
    assert "5-20w1-10s" in cell.id
    assert Cell.from_json(cell.to_json()) == cell


def test_a_range_of_ways_is_refused_for_a_head_of_fixed_size(suite_of: Reader) -> None:
    messages = mistakes(suite_of, HEAD + RANGES.format(algorithm='"maml"', test="{ways = [5, 20]}"))

    rule = "cells[1].test.ways must be one number (algorithm 'maml' has a head of fixed size), got [5, 20]"
    assert any(rule in line for line in messages)
    (cell,) = suite_of(HEAD + RANGES.format(algorithm='"maml"', test="{shots = [1, 3]}")).cells
    assert str(cell.test) == "5-way 1–3-shot"


def test_mistakes_in_ranges_are_named(suite_of: Reader) -> None:
    for test, message in (
        ("{ways = [20, 5]}", "cells[1].test.ways must be a range from the smaller number to the greater"),
        ("{ways = [0, 5]}", "must be ≥ 1, got 0"),
        ("{ways = [5, 1000]}", "cells[1].test.ways must be at most"),
        ("{shots = [1, 30]}", "must have shots + queries of at most 24"),
        ("{ways = [1, 2, 3]}", "must be int"),
        ('{sampling = "even"}', "must be one of uniform, uneven, meta-dataset"),
    ):
        messages = mistakes(suite_of, HEAD + RANGES.format(algorithm='"protonet"', test=test))
        assert any(message in line for line in messages), (test, messages)


def test_training_may_have_ranges_of_its_own(suite_of: Reader) -> None:
    text = RANGES.format(algorithm='"protonet"', test="{ways = 5}") + "train = {ways = [5, 10]}\n"
    (cell,) = suite_of(HEAD + text).cells

    assert str(cell.test) == "5-way 1-shot"
    assert str(cell.train) == "5–10-way 1-shot"


def test_stated_shots_are_those_of_every_class_whatever_rule_drew_them_before() -> None:
    by_rule = VariedProtocol(20, 100, 10, least_ways=5, sampling="meta-dataset")

    assert by_rule.restated(ways=5, shots=5) == Protocol(5, 5, 10)
    assert by_rule.restated(ways=5, shots=5, queries=15) == Protocol(5, 5, 15)
    assert by_rule.restated(shots=5) == VariedProtocol(
        20, 5, 10, least_ways=5, least_shots=5, least_queries=10
    )
    assert by_rule.restated(ways=5) == replace(by_rule, ways=5, least_ways=5)
    assert replace(by_rule, sampling="uneven").restated(ways=5).sampling == "uneven"
