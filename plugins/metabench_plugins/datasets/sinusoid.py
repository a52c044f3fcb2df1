"""Sinusoid regression of the MAML paper (Finn, Abbeel and Levine 2017, section 5.1)."""

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
class Sinusoid(Dataset):
    """Regression of y = a·sin(x - p) with x in [-5, 5); every task has its own amplitude a and phase p.

    a is uniform in [0.1, 5) and p in [0, π), as in cbfinn/maml. Tasks are endless; splits and seeds draw
    different ones. Protocol: ways 1, shots support points, queries query points; x and y [T, n, 1].
    """

    name: ClassVar[str] = "sinusoid"
    noise: float = setting(0.0, "standard deviation of the noise on support targets", at_least=0)

    def describe(self) -> Facts:
        """Return the facts of an endless regression of one number on one number."""
        endless = {"train": 0, "validation": 0, "test": 0}
        return Facts("regression", (1,), 1, endless, dict(endless))

    def load(self, device: Device) -> Source:
        """Return a source; there is no data to load."""
        return _Waves(device, self.noise)


class _Waves(Source):
    def __init__(self, device: Device, noise: float) -> None:
        self.device = device
        self.noise = noise

    def episodes(self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int) -> Episodes:
        import torch

        drawn = self.manifest(split, protocol, indices, seed)
        amplitude, phase = drawn["amplitude"][:, None], drawn["phase"][:, None]

        def examples(x: Any, error: Any) -> Examples:
            y = amplitude * np.sin(x - phase) + error
            return Examples(*(torch.from_numpy(v[..., None]).to(self.device.dtype).to(self.device.torch)
                              for v in (x, y)))  # fmt: skip

        error = self.noise * drawn["noise"] if self.noise else 0.0
        none = torch.empty((len(drawn["index"]), 0), dtype=torch.int64, device=self.device.torch)
        return Episodes(
            examples(drawn["support"], error),
            examples(drawn["query"], 0.0),
            none,
            torch.from_numpy(drawn["index"]).to(self.device.torch),
        )

    def manifest(
        self, split: Split, protocol: Protocol, indices: Sequence[int], seed: int
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        """amplitude, phase [T]; support [T, shots] and query [T, queries]: the places x; index [T]."""
        if protocol.ways != 1:
            raise Invalid(f"sinusoid is a regression: ways must be 1, got {protocol.ways}")
        key = draws.key("metabench", "sinusoid", split, protocol.shots, protocol.queries, seed)
        parts = draws.streams(key, indices, 3)
        arrays = {
            "amplitude": draws.uniform(parts[:, 0], 1, 0.1, 5.0)[:, 0],
            "phase": draws.uniform(parts[:, 0], 1, 0.0, np.pi, first=1)[:, 0],
            "support": draws.uniform(parts[:, 1], protocol.shots, -5.0, 5.0),
            "query": draws.uniform(parts[:, 2], protocol.queries, -5.0, 5.0),
            "index": np.asarray(indices, dtype=np.int64),
        }
        if self.noise:
            arrays["noise"] = draws.normal(parts[:, 1], protocol.shots, first=protocol.shots)
        return arrays
