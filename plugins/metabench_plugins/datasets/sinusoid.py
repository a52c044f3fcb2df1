"""Sinusoid regression of the MAML paper (Finn, Abbeel and Levine 2017, section 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from metabench import Dataset, Facts, Source, setting

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
        from metabench_plugins.datasets._waves import Waves

        return Waves(device, ("sinusoid",), -5.0, 5.0, self.noise)
