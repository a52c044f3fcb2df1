"""Which classes of the user's own data are in which split: by a list, or by fractions and a seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from metabench.data import draws
from metabench.data.classes import repeated
from metabench.errors import DataError
from metabench.records.cell import SPLITS, Split

ALIASES: Mapping[str, Split] = {
    "train": "train", "training": "train", "meta-train": "train", "base": "train",
    "validation": "validation", "val": "validation", "valid": "validation", "meta-validation": "validation",
    "test": "test", "meta-test": "test", "novel": "test",
}  # fmt: skip
"""Names under which people keep splits."""


def split_named(name: str) -> Split | None:
    """Return the split that people mean by this name, or None."""
    return ALIASES.get(name)


def by_list(path: Path, names: Sequence[str]) -> dict[Split, list[str]]:
    """The splits of a JSON file {"train": [class, …], "validation": […], "test": […]}.

    Classes in no list are left out. Raises DataError where a listed class does not exist, is listed twice,
    or a split's name is unknown.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        lists = {str(split): [str(name) for name in part] for split, part in dict(told).items()}
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} is no JSON file of split lists ({error})") from error
    splits: dict[Split, list[str]] = {}
    for split, part in lists.items():
        if split not in ALIASES:
            raise DataError(f"{path} names the split {split!r}; known: {', '.join(SPLITS)}")
        splits[ALIASES[split]] = part
    listed = [name for part in splits.values() for name in part]
    twice, absent = repeated(listed), [name for name in listed if name not in set(names)]
    if twice:
        raise DataError(f"{path} lists the class {twice[0]!r} twice")
    if absent:
        raise DataError(f"{path} lists {len(absent)} classes that do not exist, such as {absent[0]!r}")
    return splits


def by_fractions(names: Sequence[str], fractions: Sequence[float], seed: int) -> dict[Split, list[str]]:
    """A random split of the classes: fractions of train, validation and test, which add up to 1 or less.

    A class's place hangs on its name and the seed alone, so another machine splits alike.
    """
    if len(fractions) != 3 or min(fractions) < 0 or not 0 < sum(fractions) <= 1 + 1e-9:
        raise DataError(f"fractions are three shares of train, validation and test, not {list(fractions)}")
    shuffled = sorted(names, key=lambda name: (draws.key("metabench-split", seed, name), name))
    ends = [round(sum(fractions[: place + 1]) * len(shuffled)) for place in range(3)]
    parts = zip(SPLITS, [0, *ends[:2]], ends, strict=True)
    return {split: sorted(shuffled[low:high]) for split, low, high in parts if high > low}  # type: ignore[misc]
