"""What verification says of results: its findings, of one file or of several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Fault = tuple[str, str]
"""What is wrong with one file: the name of the check, and what it saw."""

Faults = Iterator[Fault]


@dataclass(frozen=True)
class Finding:
    """What is wrong with a result file, or where `serious` is False, what a reader must know of it."""

    file: str
    check: str
    what: str
    serious: bool = True

    def __str__(self) -> str:
        return f"{'error' if self.serious else 'notice'}: {self.file}: {self.check}: {self.what}"
