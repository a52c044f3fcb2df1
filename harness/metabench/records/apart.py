"""What tells the cells of a suite apart, in a few words, where their readable names do not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from metabench.records.cell import COMPONENTS, Cell
from metabench.records.identity import ANNOTATIONS

HIDDEN = frozenset({"plugins", "seed", *ANNOTATIONS, *(f"{part}.defaults" for part in COMPONENTS)})
IN_NAMES = frozenset({"backend.settings.ranks"})
"""The setting that a cell's name shows already."""


def settings_apart(cells: Sequence[Cell]) -> dict[str, str]:
    """Return, by digest of the cell, what differs from cells of the same name: `rate=0.1, budget.steps=5`.

    The name is that of the id, without the digest and the seed. A setting of a component that differs among
    the suite's cells with this component is named too, as tables do.
    """
    flat = {cell.digest: _flat(cell) for cell in cells}
    groups: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        groups.setdefault(("", _stem(cell)), []).append(cell.digest)
        for part, spec in cell.components().items():
            groups.setdefault((part, spec.name), []).append(cell.digest)
    apart: dict[str, dict[str, str]] = {cell.digest: {} for cell in cells}
    for (part, _), digests in groups.items():
        for key in _differing([flat[digest] for digest in digests], part):
            for digest in digests:
                if key in flat[digest]:
                    apart[digest][_short(key)] = flat[digest][key]
    return {
        digest: ", ".join(f"{key}={value}" for key, value in settings.items())
        for digest, settings in apart.items()
    }


def _stem(cell: Cell) -> str:
    """Return a cell's id without its seed and digest."""
    return cell.id.rpartition("-s")[0]


def _differing(cells: Sequence[Mapping[str, str]], part: str) -> list[str]:
    """Return the keys whose values are not the same in all of these cells; part: "" for any."""
    keys = dict.fromkeys(key for cell in cells for key in cell if not part or key.startswith(f"{part}."))
    return [key for key in keys if len({cell.get(key) for cell in cells}) > 1]


def _flat(cell: Cell) -> dict[str, str]:
    """Return every value of a cell as JSON, by its dotted key; the values that a name has are left out."""
    values: dict[str, str] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                key = f"{prefix}.{name}" if prefix else name
                if key not in HIDDEN | IN_NAMES:
                    add(key, inner)
        else:
            values[prefix] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    add("", cell.to_json())
    return values


def _short(key: str) -> str:
    """Return a key as a person writes it: `algorithm.settings.rate` is `rate`."""
    component, _, setting = key.partition(".settings.")
    return setting if setting and component == "algorithm" else key.replace(".settings.", ".")
