"""What is wrong with a suite file: every mistake is collected, and reported at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from metabench.errors import MetabenchError, did_you_mean


class Mistakes:
    """The mistakes in one suite file, in order and without repetitions.

    count: with repetitions, since the same mistake can spoil several combinations.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listed: dict[str, None] = {}
        self.count = 0

    def text(self, where: str, text: Any) -> str:
        """Return a value that must be a text."""
        if not isinstance(text, str):
            self.must(where, "be a text in quotes", text)
        return str(text)

    def table(self, where: str, given: Any, allowed: Sequence[str] | None = None) -> Mapping[str, Any]:
        """Return `given` where it is a table, else an empty one; keys that are not allowed are mistakes."""
        if not isinstance(given, Mapping):
            self.must(where, "be a table of keys and values", given)
            return {}
        for key in given:
            if allowed is not None and key not in allowed:
                self.unknown_key(where, key, allowed)
        return given

    def unknown_key(self, where: str, key: str, allowed: Sequence[str]) -> None:
        """Add that a key is none of those that are allowed."""
        inside = f" in {where!r}" if where else ""
        self.wrong(f"unknown key {key!r}{inside}; {did_you_mean(key, allowed)}")

    def missing(self, where: str, known: Collection[str], why: str = "") -> None:
        """Add that a key must be there; known: what it may name."""
        because = f" ({why})" if why else ""
        self.wrong(f"{where} is missing{because}; {did_you_mean('', known)}")

    def must(self, where: str, rule: str, given: Any, why: str = "") -> None:
        """Add what a value must be, and what was given."""
        because = f" ({why})" if why else ""
        self.wrong(f"{where} must {rule}{because}, got {_short(given)}")

    def errors(self, where: str, error: MetabenchError) -> None:
        """Add each line of an error."""
        for line in str(error).splitlines():
            self.wrong(f"{where}: {line}")

    def wrong(self, text: str) -> None:
        """Add a mistake, which begins with the file; an option of the command line needs none."""
        self.listed[text if text.startswith("--") else f"{self.path}: {text}"] = None
        self.count += 1


def _short(given: Any) -> str:
    text = "a table" if isinstance(given, Mapping) else repr(given)
    return text if len(text) <= 60 else f"{text[:60]}…"
