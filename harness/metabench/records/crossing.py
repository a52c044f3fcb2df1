"""Train here, test there: whether a cell may be trained on one data set and scored on another."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from metabench.records.cell import Facts

LISTED = 4
"""At most so many shared groups are named."""


def crossing_problem(train: Facts, test: Facts, splits: Sequence[str]) -> str | None:
    """Return why what is learned on `train` cannot be scored on `test`, None where it can.

    splits: those of the training data set that the cell learns or selects from.
    """
    for fact in ("kind", "input_shape", "outputs"):
        here, there = getattr(train, fact), getattr(test, fact)
        if tuple(here) != tuple(there) if isinstance(here, Sequence) else here != there:
            name = fact.replace("_", " ")
            return f"must have the same {name} as what it is trained on, {here}, got {there}"
    shared = shared_groups(train, test, splits)
    if shared:
        more = f" and {len(shared) - LISTED} more" if len(shared) > LISTED else ""
        return f"must hold no group that is trained on, both have {', '.join(shared[:LISTED])}{more}"
    return None


def shared_groups(train: Facts, test: Facts, splits: Sequence[str]) -> list[str]:
    """Return the groups of the test split that are in these splits of the training data set too."""
    learned = {group.casefold() for group in _groups(train, splits)}
    return sorted(group for group in _groups(test, ["test"]) if group.casefold() in learned)


def overlap_is_known(train: Facts, test: Facts, splits: Sequence[str]) -> bool:
    """Return whether the groups of both are named, in one vocabulary: the word before the colon."""
    learned, tested = _groups(train, splits), _groups(test, ["test"])
    words = {_vocabulary(group) for group in (*learned, *tested)}
    named = all(train.groups.get(split) for split in splits if split in train.classes)
    return bool(tested) and named and len(words) == 1


def _groups(facts: Facts, splits: Collection[str]) -> list[str]:
    return [group for split in splits for group in facts.groups.get(split, ())]


def _vocabulary(group: str) -> str:
    return group.partition(":")[0] if ":" in group else ""
