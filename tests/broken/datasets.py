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
from metabench.records import Protocol
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
        copies = self.fault == "near copies" and split == "test"
        source_split = "test" if self.fault == "one split" else "train" if copies else split
        moved = {"moves on": self.calls, "other load": self.load}.get(self.fault, 0)
        asked = range(100, 100 + len(indices)) if self.fault == "slice" and indices[0] else indices
        if self.fault == "no numbers":
            asked = [0] * len(indices)
        if self.fault == "hash":  # of a string: another value in each process
            moved = hash("a key of this data set")
        seed = 0 if self.fault == "no seed" else seed + moved
        if self.fault == "even":  # as many shots for every class
            protocol = Protocol(protocol.ways, protocol.shots, protocol.queries)
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
        if self.fault == "marked":  # the label at a place of each image
            support, query = (Examples(_marked(x, y), y) for x, y in (support, query))
        if self.fault == "marked query":
            query = Examples(_marked(query.x, query.y), query.y)
        if copies:
            support, query = (Examples(0.9 * x + 0.2, y) for x, y in (support, query))
        if self.fault == "views":
            store = vars(self).setdefault("kept", {})
            key = (split, tuple(indices), seed)
            support, query = store.setdefault(key, (support, query))
        place = "cpu" if self.fault == "stray index" else self.device.torch
        numbers = torch.tensor(list(indices), device=place)
        return Episodes(support, query, drawn.classes, numbers)

    def shape(self, split: Any, protocol: Any, index: int, seed: int) -> Any:
        self.calls += 1
        if self.fault == "shapes move on":
            return Protocol(1 + self.calls % 2, protocol.shots, 1)
        return protocol if self.fault == "no shape" else None

    def batch(self, batches: Any, indices: Sequence[int], seed: int) -> Examples:
        if self.fault == "no batches":
            raise Invalid("none")
        self.calls += 1
        return self.sound.batch(batches, indices, seed + (self.calls if self.fault == "batch" else 0))

    def manifest(self, split: Any, protocol: Any, indices: Sequence[int], seed: int) -> Any:
        if self.fault == "hash":
            seed += hash("a key of this data set")
        if self.fault == "other load":
            seed += self.load
        if self.fault == "one split":
            split = "test"
        if self.fault == "near copies" and split == "test":
            split = "train"
        if self.fault == "other manifest":
            seed += 1
        if self.fault == "manifest without seed":
            seed = 0
        manifest = dict(self.sound.manifest(split, protocol, indices, seed))
        if self.fault == "other images":  # of the same classes
            others = [number + 1 for number in indices]
            manifest["query"] = self.sound.manifest(split, protocol, others, seed)["query"]
        if self.fault == "mute manifest":
            return {name: np.zeros_like(value) for name, value in manifest.items()}
        return (
            {name: torch.tensor(v) for name, v in manifest.items()} if self.fault == "tensors" else manifest
        )


def _marked(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[..., 0, 0, 0] = y.to(x.dtype)
    return x
