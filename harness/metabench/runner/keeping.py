"""What a run keeps beside its results: learned states, and checkpoints while cells run."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from metabench.errors import RequestError
from metabench.records.job import CHECKPOINT_SECONDS

STATES_VARIABLE = "METABENCH_KEEP_STATES"
SECONDS_VARIABLE = "METABENCH_CHECKPOINT_SECONDS"


@dataclass(frozen=True)
class Keeping:
    """states: whether the scored state of each cell is kept; checkpoint_seconds: between two checkpoints."""

    states: bool = True
    checkpoint_seconds: float = CHECKPOINT_SECONDS


def keeping(states: bool | None = None, checkpoint_seconds: float | None = None) -> Keeping:
    """Return what to keep; None takes METABENCH_KEEP_STATES (0 or 1) and METABENCH_CHECKPOINT_SECONDS.

    Raises RequestError where a variable has another value.
    """
    if states is None:
        text = os.environ.get(STATES_VARIABLE, "1")
        if text not in ("0", "1"):
            raise RequestError(f"{STATES_VARIABLE} must be 0 or 1, got {text!r}")
        states = text == "1"
    if checkpoint_seconds is None:
        checkpoint_seconds = _seconds(os.environ.get(SECONDS_VARIABLE, str(CHECKPOINT_SECONDS)))
    return Keeping(states, checkpoint_seconds)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise RequestError(f"{SECONDS_VARIABLE} must be a number of seconds ≥ 0, got {text!r}")
    return seconds
