"""The schema of results: it is that of the records, and older results are read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from helpers.reports import content_in
from helpers.results import store
from helpers.shell import ROOT
from helpers.submissions import errors, honest
from metabench.records.files import read_result
from metabench.records.identity import RULE
from metabench.records.result import SCHEMA
from metabench.records.schema import schema, stored
from metabench.records.upgrade import upgrade


def test_the_shipped_schema_is_that_of_the_records() -> None:
    assert stored() == schema(), "run: python -m metabench.records.schema"


def test_the_schema_accepts_results_and_refuses_others() -> None:
    validator = jsonschema.Draft202012Validator(stored())
    jsonschema.Draft202012Validator.check_schema(stored())
    document = honest([0], ["maml"])[0].to_json()

    assert validator.is_valid(document)
    assert not validator.is_valid({**document, "started": 7})
    assert not validator.is_valid({k: v for k, v in document.items() if k != "cell"})


def test_older_results_are_upgraded_step_by_step() -> None:
    def second(document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "notes": [document["note"]]}

    def third(document: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in document.items() if k != "note"}

    steps = {1: second, 2: third}
    assert upgrade({"schema": 1, "note": "a"}, 3, steps) == {"schema": 3, "notes": ["a"]}
    with pytest.raises(ValueError, match="schema 9; this metabench reads up to 3; upgrade metabench"):
        upgrade({"schema": 9}, 3, steps)
    with pytest.raises(ValueError, match="schema None"):
        upgrade({}, 3, steps)


def test_a_result_of_schema_1_is_read_and_its_seal_holds(tmp_path: Path) -> None:
    (path,) = (ROOT / "tests" / "golden" / "schema-1").glob("*.json")

    training = read_result(path).training

    assert errors(path) == []
    assert len(content_in([path], tmp_path).summaries) == 1
    assert training is not None
    assert training.tasks == 4 * 32  # labelled examples; schema 1 counted the 8 micro-batches
    assert training.energy == training.target_energy == {}


def test_a_result_of_schema_2_keeps_the_digest_and_the_name_that_it_was_stored_under() -> None:
    (path,) = (ROOT / "tests" / "golden" / "schema-2").glob("*.json")
    document = json.loads(path.read_text())

    result = read_result(path)

    assert document["schema"] == 2
    assert errors(path) == []
    assert (result.cell.digest, f"{result.cell.id}.json") == (document["digest"], path.name)
    assert (result.contract, result.code) == (1, {})
    assert replace(result.cell, digest_rule=RULE).digest != result.cell.digest


def test_a_stored_result_of_this_schema_reads_back_as_it_was(tmp_path: Path) -> None:
    (result,) = honest([0], ["maml"])
    (path,) = store(tmp_path, [result])

    assert json.loads(path.read_text())["schema"] == SCHEMA
    assert read_result(path) == result
