"""Names of classes and splits in the user's own data, and splits by a list or by fractions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from metabench.data import draws
from metabench.data.classes import class_name, repeated
from metabench.errors import DataError
from metabench.records.cell import SPLITS, Split

_NAMES: Mapping[Split, str] = {
    "train": "train training trn base",
    "validation": "validation valid val dev",
    "test": "test testing tst novel",
}
_ALIASES: Mapping[str, Split] = {name: split for split, names in _NAMES.items() for name in names.split()}
_UNCLEAR = frozenset({"eval", "evaluation", "evaluate", "holdout", "heldout"})


def split_named(name: str) -> Split | None:
    """Return the split that people mean by a name such as `Train`, `VAL` or `meta_test`, or None.

    Raises DataError for a name that some use for validation and others for the test, such as `eval`.
    """
    word = re.sub(r"[\W_]+", "", name.casefold())
    word = re.sub(r"(set|split|data|images|classes)$", "", word.removeprefix("meta"))
    if word in _UNCLEAR:
        raise DataError(f"the split {name!r} may be validation or test; rename it to one of the two")
    return _ALIASES.get(word)


def by_list(path: Path, names: Sequence[str]) -> dict[Split, list[str]]:
    """Return the splits of a JSON file {"train": [class, …], "validation": […], "test": […]}.

    Classes in no list are left out. Raises DataError if a listed class does not exist, a class is listed
    twice, or a split's name is unknown.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        lists = {str(split): [class_name(str(name)) for name in part] for split, part in document.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is no JSON file of split lists ({error})") from error
    splits: dict[Split, list[str]] = {}
    for name, part in lists.items():
        split = known_split(name, path)
        if split in splits:
            raise DataError(f"{path} lists the split {split} twice")
        splits[split] = part
    listed = [name for part in splits.values() for name in part]
    existing = set(names)
    duplicates, absent = repeated(listed), [name for name in listed if name not in existing]
    if duplicates:
        raise DataError(f"{path} lists the class {duplicates[0]!r} twice")
    if absent:
        raise DataError(f"{path} lists {len(absent)} classes that do not exist, such as {absent[0]!r}")
    return splits


def known_split(name: str, place: object) -> Split:
    """Return the split of this name; raises DataError, naming the place, if it is unknown or unclear."""
    try:
        split = split_named(name)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    if split is None:
        raise DataError(f"{place}: unknown split {name!r}; known: {', '.join(SPLITS)}")
    return split


def by_fractions(names: Sequence[str], fractions: Sequence[float], seed: int) -> dict[Split, list[str]]:
    """Return a random split of the classes: fractions of train, validation and test, with a sum of 1 or less.

    A class's split depends on the names and the seed alone, so another machine splits alike.
    """
    if len(fractions) != 3 or min(fractions) < 0 or not 0 < sum(fractions) <= 1 + 1e-9:
        raise DataError(
            "fractions must be three numbers of at least 0 (train, validation, test) and sum to ≤ 1, "
            f"got {list(fractions)}"
        )
    shuffled = sorted(names, key=lambda name: (draws.key("metabench-split", seed, name), name))
    ends = [round(sum(fractions[: place + 1]) * len(shuffled)) for place in range(3)]
    parts = zip(SPLITS, [0, *ends[:2]], ends, strict=True)
    return {split: sorted(shuffled[low:high]) for split, low, high in parts if high > low}  # type: ignore[misc]


def require_utf8(names: Iterable[str], place: object) -> None:
    """Raise DataError for a name of a file or folder that is not UTF-8, as old archives have them."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            stored = name.encode(errors="surrogateescape")
            raise DataError(f"{place}: the name {stored!r} is not UTF-8; rename it") from None
