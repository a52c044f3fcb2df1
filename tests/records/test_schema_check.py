"""The quick check of the schema decides as jsonschema does."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from helpers.json_values import spoiled
from helpers.results import made_cell, made_result
from metabench.records.schema import stored
from metabench.records.schema_check import compile_schema, fits_schema, schema_violations


@pytest.mark.parametrize("wrong", [None, -7, "x", [], {"a": [1]}, True, 1.5, 2.0], ids=repr)
def test_it_decides_as_jsonschema_does(wrong: Any) -> None:
    document = json.loads(json.dumps(made_result(made_cell(test_tasks=5)).to_json()))
    validator = jsonschema.Draft202012Validator(stored())

    copies = list(spoiled(document, wrong))

    decided = [fits_schema(copy) for copy in copies]
    assert decided == [validator.is_valid(copy) for copy in copies]
    assert len(copies) > 200
    assert not all(decided)
    assert fits_schema(document)


def test_violations_are_explained_in_the_words_of_jsonschema() -> None:
    document = made_result(made_cell(test_tasks=5)).to_json()

    assert schema_violations(document) == []
    assert schema_violations({**document, "started": 7}) == ["$.started: 7 is not of type 'string'"]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, [1, 2.0], [True, 1.5, "1"]),
        ({"type": ["number", "null"]}, [1, 1.5, None], ["1", True]),
        ({"const": 2}, [2], [3, "2"]),
        ({"enum": ["a", "b"]}, ["a"], ["c", 1]),
        ({"type": "string", "pattern": "^a+$"}, ["aa"], ["ab", 1]),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, [None, "x"], [1]),
        ({"type": "array", "items": {"type": "number"}}, [[], [1, 2.5]], [[1, "x"], {}]),
        (
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "number"}], "maxItems": 2},
            [[1, 2.5], [1]],
            [["x", 1], [1, 2, 3]],
        ),
        (
            {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"],
             "additionalProperties": False},
            [{"a": 1}],
            [{}, {"a": "x"}, {"a": 1, "b": 2}],
        ),
        ({"type": "object", "additionalProperties": {"type": "number"}}, [{}, {"x": 1}], [{"x": "y"}]),
    ],
)  # fmt: skip
def test_each_word_of_the_schema_means_what_json_schema_says(
    schema: dict[str, Any], good: list[Any], bad: list[Any]
) -> None:
    fits = compile_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    assert [fits(value) for value in (*good, *bad)] == [True] * len(good) + [False] * len(bad)
    assert [validator.is_valid(value) for value in (*good, *bad)] == [True] * len(good) + [False] * len(bad)


def test_a_word_that_it_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="the words minimum"):
        compile_schema({"type": "number", "minimum": 3})
