"""Older results, read as if they were written today: one small step per version of the schema.

To change the schema: raise `metabench.records.result.SCHEMA`, add the step from the version before to
`STEPS`,
write `result.schema.json` anew (`python -m metabench.records.schema`) and keep a result of the old version
among the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Step = Callable[[dict[str, Any]], dict[str, Any]]


def _to_2(told: dict[str, Any]) -> dict[str, Any]:
    """Training has energy of its own; `tasks` counts examples, not micro-batches, of supervised training."""
    training, train = told["training"], told["cell"]["train"]
    if training is None:
        return told
    kept = {name: value for name, value in training.items() if name != "finish_seconds"}
    if train is not None and train["kind"] == "batches":
        kept["tasks"] *= train["micro"]
    return {**told, "training": {**kept, "energy": {}, "target_energy": {}}}


STEPS: Mapping[int, Step] = {1: _to_2}
"""From the version of the key to the next one."""


def upgrade(told: Mapping[str, Any], wanted: int, steps: Mapping[int, Step] = STEPS) -> dict[str, Any]:
    """The result's JSON in the schema `wanted`; raises ValueError for a version there is no way from."""
    now = dict(told)
    found = now.get("schema")
    while now.get("schema") != wanted:
        version = now.get("schema")
        if not isinstance(version, int) or version not in steps:
            newer = isinstance(version, int) and version > wanted
            way_out = "; upgrade metabench" if newer else ""
            raise ValueError(f"schema {found!r}; this metabench reads up to {wanted}{way_out}")
        now = steps[version](now)
        now["schema"] = version + 1
    return now
