"""Older results, read as if they were written today: one small step per version of the schema.

To change the schema: raise `metabench.records.result.SCHEMA`, add the step from the version before to
`STEPS`, write `result.schema.json` again (`python -m metabench.records.schema`) and keep a result of the old
version among the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Step = Callable[[dict[str, Any]], dict[str, Any]]


def _to_2(document: dict[str, Any]) -> dict[str, Any]:
    """Training has energy of its own; `tasks` counts examples, not micro-batches, of supervised training."""
    training, train = document["training"], document["cell"]["train"]
    if training is None:
        return document
    kept = {name: value for name, value in training.items() if name != "finish_seconds"}
    if train is not None and train["kind"] == "batches":
        kept["tasks"] *= train["micro"]
    return {**document, "training": {**kept, "energy": {}, "target_energy": {}}}


def _to_3(document: dict[str, Any]) -> dict[str, Any]:
    """Cells and results have more fields, all at their defaults; digests were made by rule 1, with them."""
    cell = document["cell"]
    specs = {
        kind: {**cell[kind], "defaults": []} if cell[kind] else None
        for kind in ("algorithm", "network", "dataset", "backend")
    }
    added: dict[str, Any] = {
        "test_dataset": None,
        "weights": "",
        "scored": "",
        "tuning": {},
        "digest_rule": 1,
    }
    budget = {**cell["budget"], "patience": 0, "images": 0}
    evaluation = {**cell["evaluation"], "metrics": [], "predictions": False}
    upgraded = {**cell, **specs, **added, "budget": budget, "evaluation": evaluation}
    training, scores = document["training"], document["scores"]
    resumed = None if training is None else {**training, "resumed": []}
    scored = None if scores is None else {**scores, "further": {}, "overlap": ""}
    added_here = {"code": {}, "contract": 1, "state": "", "predictions": ""}
    return {**document, **added_here, "cell": upgraded, "training": resumed, "scores": scored}


STEPS: Mapping[int, Step] = {1: _to_2, 2: _to_3}
"""From the version of the key to the next one."""


def upgrade(document: Mapping[str, Any], wanted: int, steps: Mapping[int, Step] = STEPS) -> dict[str, Any]:
    """Return the result's JSON in the schema `wanted`; raises ValueError where no step leads on to it."""
    upgraded = dict(document)
    while upgraded.get("schema") != wanted:
        version = upgraded.get("schema")
        if not isinstance(version, int) or version not in steps:
            newer = isinstance(version, int) and version > wanted
            remedy = "; upgrade metabench" if newer else ""
            given = document.get("schema")
            raise ValueError(f"schema {given!r}; this metabench reads up to {wanted}{remedy}")
        upgraded = steps[version](upgraded)
        upgraded["schema"] = version + 1
    return upgraded
