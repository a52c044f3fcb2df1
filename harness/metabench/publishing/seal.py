"""The seal of a result file: a digest of everything else in it, which tells careless edits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from metabench.records.identity import canonical_json, digest_of

PLACE = "\0per_task"
"""Stands for the per-task scores while the rest is written."""


def seal_holds(document: Mapping[str, Any]) -> bool:
    """Whether the seal is the digest of everything else.

    Per-task scores have few different values, whose texts are looked up: writing them is most of the work.
    Where that digest is another one, everything is written anew: a text may be that of `PLACE`, and a zero
    may have a sign.
    """
    content = {name: value for name, value in document.items() if name != "seal"}
    seal = document.get("seal")
    return bool(seal) and (seal == _quick_digest(content) or seal == digest_of(content))


def _quick_digest(content: Mapping[str, Any]) -> str:
    """The digest of a result with scores; empty for others."""
    scores = content.get("scores")
    values = scores.get("per_task") if isinstance(scores, dict) else None
    if not isinstance(scores, dict) or not isinstance(values, list) or set(map(type, values)) != {float}:
        return ""
    text = canonical_json({**content, "scores": {**scores, "per_task": PLACE}})
    listed = f"[{','.join(map(_text, values))}]"
    return hashlib.sha256(text.replace(json.dumps(PLACE), listed, 1).encode()).hexdigest()


@lru_cache(maxsize=4096)
def _text(value: float) -> str:
    return repr(value)
