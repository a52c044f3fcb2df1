"""Data sets with one fault each, and a sound one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from metabench import (
    Episodes,
    Examples,
    Facts,
    Invalid,
    Source,
    setting,
)
from metabench.device import Device
from metabench.testing import TinyClasses


@dataclass(frozen=True, kw_only=True)
class FaultyDataset(TinyClasses):
    """Gaussian classes, with a fault."""

    name: ClassVar[str] = "faulty"
    fault: str = setting("", "which")

    def describe(self) -> Facts:
        facts = super().describe()
        if self.fault == "odd kind":
            return replace(facts, kind="images")  # type: ignore[arg-type]
        return replace(facts, images={}) if self.fault == "no images" else facts

    def missing(self) -> str | None:
        return {"mute": "", "absent": "it is not here: run `fetch`"}.get(self.fault)

    def load(self, device: Device) -> Source:
        return _FaultySource(self.fault, super().load(device), device)


class _FaultySource(Source):
    loads = 0

    def __init__(self, fault: str, sound: Source, device: Device) -> None:
        self.fault, self.sound, self.device, self.calls = fault, sound, device, 0
        type(self).loads += 1
        self.load = self.loads

    def episodes(self, split: Any, protocol: Any, indices: Sequence[int], seed: int) -> Episodes:
        self.calls += 1
        if self.fault == "any size" and protocol.ways > 20:
            protocol = replace(protocol, ways=3)
        source_split = "test" if self.fault == "one split" else split
        moved = {"moves on": self.calls, "other load": self.load}.get(self.fault, 0)
        asked = range(100, 100 + len(indices)) if self.fault == "slice" and indices[0] else indices
        if self.fault == "no numbers":
            asked = [0] * len(indices)
        seed = 0 if self.fault == "no seed" else seed + moved
        drawn = self.sound.episodes(source_split, protocol, asked, seed)
        support, query = drawn.support, drawn.query
        if self.fault == "float32":
            support = Examples(support.x.float(), support.y)
        if self.fault == "meta device":
            query = Examples(query.x.to("meta"), query.y)
        if self.fault == "global labels":
            support = Examples(support.x, support.y + 1)
        if self.fault == "shared example":
            query = Examples(torch.cat([support.x[:, :1], query.x[:, 1:]], 1), query.y)
        if self.fault == "chance":
            torch.rand(1)
        if self.fault == "views":
            store = vars(self).setdefault("kept", {})
            key = (split, tuple(indices), seed)
            support, query = store.setdefault(key, (support, query))
        place = "cpu" if self.fault == "stray index" else self.device.torch
        numbers = torch.tensor(list(indices), device=place)
        return Episodes(support, query, drawn.classes, numbers)

    def batch(self, batches: Any, indices: Sequence[int], seed: int) -> Examples:
        if self.fault == "no batches":
            raise Invalid("none")
        self.calls += 1
        return self.sound.batch(batches, indices, seed + (self.calls if self.fault == "batch" else 0))

    def manifest(self, split: Any, protocol: Any, indices: Sequence[int], seed: int) -> Any:
        told = self.sound.manifest(split, protocol, indices, seed)
        if self.fault == "mute manifest":
            return {name: np.zeros_like(value) for name, value in told.items()}
        return {name: torch.tensor(v) for name, v in told.items()} if self.fault == "tensors" else told
