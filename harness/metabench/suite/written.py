"""What a run without a file is given, as a suite writes it; and mistakes in it, by the option they are of."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metabench.errors import RequestError
from metabench.records.cell import Spec
from metabench.records.protocol import Protocol
from metabench.settings import parse_spec
from metabench.suite.protocols import as_written

GivenComponent = Any
"""A component as a person names it: `maml:inner_rate=0.4`, a suite's table, or a class or object of it."""

QUERIES = 15
"""Queries of each class, where the text of a protocol does not say."""
PROTOCOL = re.compile(r"(\d+(?:-\d+)?)w(\d+(?:-\d+)?)s(?:(\d+(?:-\d+)?)q)?")
OPTION = re.compile(
    r"(algorithm|network|dataset|test_dataset|test|train|budget|evaluation|seeds|backend)\b\.?"
)


def component_tables(given: Sequence[GivenComponent], path: Path) -> list[Any]:
    """Return components as a suite writes them, in a suite at this path."""
    return [component_table(component, path) for component in given]


def component_table(given: GivenComponent, path: Path) -> Any:
    """Return a component as a suite writes it; its weights are named from the folder of the suite."""
    table = parse_spec(given) if isinstance(given, str) else dict(given)
    weights = table.get("weights")
    if isinstance(weights, str) and weights:
        table["weights"] = os.path.relpath(weights, path.parent)
    return table["name"] if set(table) == {"name"} else table


def backend_table(given: Spec | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a backend as a suite writes it, None where none is given."""
    if isinstance(given, Spec):
        return {"name": given.name, **given.settings}
    return dict(given) if given else None


def protocol_table(option: str, given: Any) -> dict[str, Any]:
    """Return a protocol as a suite writes it: `5-20w1s15q` is a range of ways."""
    if isinstance(given, Protocol):
        return as_written(given)
    if isinstance(given, Mapping):
        return dict(given)
    match = PROTOCOL.fullmatch(str(given))
    if match is None:
        raise RequestError(f"--{option} must be like 5w1s, 5w1s15q or 5-20w1-5s10q, got {given!r}")
    ways, shots, queries = (_span(text or str(QUERIES)) for text in match.groups())
    return {"ways": ways, "shots": shots, "queries": queries}


def _span(text: str) -> int | list[int]:
    least, dash, most = text.partition("-")
    return [int(least), int(most)] if dash else int(least)


def by_option(text: str, path: Path) -> str:
    """Return a mistake of the suite's table in the words of the command line."""
    text = text.removeprefix(f"{path}: ")
    text = re.sub(r" in 'cells\[\d+\]\.(?:sweep\.)?(\w+)'", r" in --\1", text)
    text = re.sub(r"^(?:cells\[\d+\]|defaults)(?:\.sweep)?(?:: |\.)", "", text)
    key = OPTION.match(text)
    if key is None or text[key.end() :].startswith(" '"):  # of "algorithm 'maml' needs …", it is the subject
        return text
    rest = text[key.end() :]
    return f"--{key[1].replace('_', '-')}{'' if rest.startswith((' ', ':')) else ' '}{rest}"
