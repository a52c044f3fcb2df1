"""What a run without a file asks for, as the command line or Python gave it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metabench.suite.written import GivenComponent

RUNS = "runs"
"""The suite of runs without a file; its version is 1."""


@dataclass(frozen=True)
class Arguments:
    """What a run without a file asks for.

    callables: what `--with` names; tests, train: `5w1s15q`, a suite's table, or a Protocol; steps: None where
    nobody says, which is a mistake where an algorithm trains; save: the file to write the suite to.
    """

    algorithms: Sequence[GivenComponent] = ()
    callables: Sequence[GivenComponent] = ()
    networks: Sequence[GivenComponent] = ()
    datasets: Sequence[GivenComponent] = ()
    test_dataset: GivenComponent | None = None
    tests: Sequence[Any] = ()
    train: Any = None
    steps: int | None = None
    budget: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    save: Path | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, name) not in (None, (), [], {}) for name in self.__dataclass_fields__)

    @property
    def path(self) -> Path:
        """The file that the suite is written to, or would be."""
        return self.save or Path(f"{RUNS}.toml")
