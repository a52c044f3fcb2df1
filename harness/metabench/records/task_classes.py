"""Which classes each test task consists of: what an interval for new classes needs.

The numbers are packed: 16 bits each (little-endian), compressed by zlib, in base64. 600 tasks of five classes
take 5 kB of a result.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from metabench.records.identity import digest_of

MOST_NUMBER = 2**16 - 1
"""The greatest number of a unit or a group that can be stored."""

KEY_DIGITS = 16


@dataclass(frozen=True)
class TaskClasses:
    """The classes of the test tasks, in the order of the tasks, and the groups that classes come from.

    ways: how many classes a task has, one number where all have as many; units: the tasks' classes one task
    after the other, packed, where classes that share their images (turns of a drawing) have one number;
    groups: the group (alphabet, …) of each unit by its number, packed; empty where none are known.
    """

    ways: tuple[int, ...]
    units: str
    groups: str = ""

    @classmethod
    def of(cls, tasks: Sequence[Sequence[int]], groups: Sequence[int] = ()) -> TaskClasses | None:
        """Return the record of tasks by the units of their classes; None for numbers too great."""
        units = [unit for task in tasks for unit in task]
        if not units or max([*units, *groups]) > MOST_NUMBER:
            return None
        ways = tuple(len(task) for task in tasks)
        return cls(ways[:1] if len(set(ways)) == 1 else ways, _pack(units), _pack(groups) if groups else "")

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TaskClasses:
        """Return what a result's JSON holds; raises KeyError or TypeError on anything else."""
        return cls(**{**document, "ways": tuple(document["ways"])})

    @property
    def key(self) -> str:
        """A short digest, equal for equal records."""
        return digest_of(self)[:KEY_DIGITS]

    def tasks(self, count: int) -> list[list[int]]:
        """Return the units of each of `count` tasks; raises ValueError where there are more or fewer."""
        ways = list(self.ways) * count if len(self.ways) == 1 else list(self.ways)
        if len(ways) != count or min(ways, default=0) < 1:
            raise ValueError(f"the classes must be of {count} tasks, got {len(ways)}")
        units = _unpack(self.units, sum(ways))
        return [units[start:end] for start, end in pairwise(accumulate(ways, initial=0))]

    def groups_of_units(self, count: int) -> list[int]:
        """Return the group of each unit; raises ValueError where there are fewer than `count` of them."""
        if not self.groups:
            return []
        groups = _unpack(self.groups, MOST_NUMBER + 1, exactly=False)
        if len(groups) < count:
            raise ValueError(f"groups must be of at least {count} classes, got {len(groups)}")
        return groups


def _pack(numbers: Sequence[int]) -> str:
    return base64.b64encode(zlib.compress(struct.pack(f"<{len(numbers)}H", *numbers), 9)).decode("ascii")


def _unpack(text: str, count: int, *, exactly: bool = True) -> list[int]:
    """Return at most `count` numbers; raises ValueError for anything that `_pack` does not give."""
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), 2 * count + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"the classes of the tasks cannot be unpacked: {error}") from None
    if len(content) % 2 or len(content) > 2 * count or (exactly and len(content) != 2 * count):
        raise ValueError(f"the classes of the tasks must be {count} numbers, got {len(content) / 2:g}")
    return list(struct.unpack(f"<{len(content) // 2}H", content))
