"""Regression of sums of sines, a harder relative of `sinusoid`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from metabench import Dataset, Facts, Source, setting

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
        from metabench_plugins.datasets._waves import Sums

        return Sums(device, self.components, self.noise)
