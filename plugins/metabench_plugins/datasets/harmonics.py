"""Regression of sums of sines, a harder relative of `sinusoid`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from metabench import Dataset, Episodes, Examples, Facts, Invalid, Protocol, Source, Split, setting
from metabench.data import draws

if TYPE_CHECKING:
    from metabench.device import Device


@dataclass(frozen=True, kw_only=True)
class Harmonics(Dataset):
    """Regression of y = Σₖ aₖ·sin(k·ω·x + pₖ), k = 1 … components, with x in [-4, 4).

    Every task has its own ω in [0.5, 1.5), phases pₖ in [0, 2π) and amplitudes aₖ = uₖ / k with uₖ in
    [0.5, 2). Tasks are endless; splits and seeds draw different ones. Protocol: ways 1; x, y [T, n, 1].
    """

    name: ClassVar[str] = "harmonics"
    components: int = setting(3, "sines that are added", at_least=1, at_most=64)
    noise: float = setting(0.0, "standard deviation of the noise on support targets", at_least=0)

    def describe(self) -> Facts:
        """Return the facts of an endless regression of one number on one number."""
        endless = {"train": 0, "validation": 0, "test": 0}
        return Facts("regression", (1,), 1, endless, dict(endless))

    def load(self, device: Device) -> Source:
        """Return a source; there is no data to load."""
        return _Sums(device, self.components, self.noise)


class _Sums(Source):
    def __init__(self, device: Device, components: int, noise: float) -> None:
        self.device = device
        self.components = components
        self.noise = noise

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        import torch

        drawn = self.manifest(split, protocol, indices, seed)
        order = np.arange(1, self.components + 1)

        def examples(x: Any, error: Any) -> Examples:
            angle = x[..., None] * (drawn["frequency"][:, None] * order)[:, None] + drawn["phase"][:, None]
            y = (drawn["amplitude"][:, None] * np.sin(angle)).sum(-1) + error
            return Examples(*(torch.from_numpy(v[..., None]).to(self.device.dtype).to(self.device.torch)
                              for v in (x, y)))  # fmt: skip

        error = self.noise * drawn["noise"] if self.noise else 0.0
        none = torch.empty((len(drawn["index"]), 0), dtype=torch.int64, device=self.device.torch)
        index = torch.from_numpy(drawn["index"]).to(self.device.torch)
        return Episodes(examples(drawn["support"], error), examples(drawn["query"], 0.0), none, index)

    def manifest(
        self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        """frequency [T]; amplitude, phase [T, components]; support and query: the places x; index [T]."""
        if protocol.ways != 1:
            raise Invalid(f"harmonics is a regression: ways must be 1, got {protocol.ways}")
        count = self.components
        key = draws.key("metabench", "harmonics", count, split, protocol.shots, protocol.queries, seed)
        parts = draws.streams(key, indices, 3)
        arrays = {
            "frequency": draws.uniform(parts[:, 0], 1, 0.5, 1.5)[:, 0],
            "phase": draws.uniform(parts[:, 0], count, 0.0, 2 * np.pi, first=1),
            "amplitude": draws.uniform(parts[:, 0], count, 0.5, 2.0, first=1 + count)
            / np.arange(1, count + 1),
            "support": draws.uniform(parts[:, 1], protocol.shots, -4.0, 4.0),
            "query": draws.uniform(parts[:, 2], protocol.queries, -4.0, 4.0),
            "index": np.asarray(indices, dtype=np.int64),
        }
        if self.noise:
            arrays["noise"] = draws.normal(parts[:, 1], protocol.shots, first=protocol.shots)
        return arrays
