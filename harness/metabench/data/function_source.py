"""Regression tasks of one formula, whose numbers are drawn and computed on the device itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metabench.contracts import Episodes, Examples, Source
from metabench.data import draws
from metabench.data.device_draws import Draws, HostDraws, draws_of
from metabench.device.device import Device
from metabench.errors import Invalid
from metabench.records.cell import Split
from metabench.records.protocol import Protocol


class FunctionSource(Source):
    """Endless tasks y = f(x) of one number x; write `parameters` and `value`.

    identity: names the data set in the key of every draw, its settings included; low, high: x is uniform in
    [low, high); noise: standard deviation of the noise on support targets. Support and query [T, n, 1].

    On a device that has float64 the tasks are drawn there: no number is copied from the host.
    """

    def __init__(
        self, device: Device, identity: Sequence[str | int], low: float, high: float, noise: float
    ) -> None:
        self.device = device
        self.identity = tuple(identity)
        self.low, self.high = low, high
        self.noise = noise

    @abstractmethod
    def parameters(self, draw: Draws, streams: Any) -> dict[str, Any]:
        """Return what makes up each task, by name, from its stream: arrays or tensors [T, …] of `draw`."""

    @abstractmethod
    def value(self, draw: Draws, drawn: Mapping[str, Any], x: Any) -> Any:
        """Return the targets without noise, [T, n], at x [T, n]."""

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        """Return the tasks of these numbers; raises Invalid where the protocol has several ways."""
        draw = draws_of(self.device.torch)
        drawn = self._drawn(draw, split, protocol, indices, seed)
        error = self.noise * drawn["noise"] if self.noise else 0.0
        x, query_x = drawn["support"], drawn["query"]
        support = Examples(self._tensor(x), self._tensor(self.value(draw, drawn, x) + error))
        query = Examples(self._tensor(query_x), self._tensor(self.value(draw, drawn, query_x)))
        none = torch.empty((len(indices), 0), dtype=torch.int64, device=self.device.torch)
        return Episodes(support, query, none, torch.as_tensor(drawn["index"], device=self.device.torch))

    def manifest(
        self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        """Return `parameters`; support [T, shots] and query [T, queries]: the places x; index [T]."""
        return self._drawn(HostDraws(), split, protocol, indices, seed)

    def _drawn(
        self, draw: Draws, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> dict[str, Any]:
        if protocol.ways != 1:
            raise Invalid(f"{self.identity[0]} is a regression: ways must be 1, got {protocol.ways}")
        key = draws.key("metabench", *self.identity, split, protocol.shots, protocol.queries, seed)
        streams = draw.streams(key, indices, 3)
        drawn = {
            **self.parameters(draw, streams[:, 0]),
            "support": draw.uniform(streams[:, 1], protocol.shots, self.low, self.high),
            "query": draw.uniform(streams[:, 2], protocol.queries, self.low, self.high),
            "index": draw.numbers(indices),
        }
        if self.noise:
            drawn["noise"] = draw.normal(streams[:, 1], protocol.shots, first=protocol.shots)
        return drawn

    def _tensor(self, values: Any) -> Tensor:
        """Return [T, n] numbers as a tensor [T, n, 1] of the device's type."""
        tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
        return tensor[..., None].to(self.device.dtype).to(self.device.torch)
