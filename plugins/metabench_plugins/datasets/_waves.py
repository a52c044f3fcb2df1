"""The sources of `sinusoid` and `harmonics`: one sine, and sums of sines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from metabench.data import Draws, FunctionSource
from metabench.device import Device


class Waves(FunctionSource):
    """y = a·sin(x - p)."""

    def parameters(self, draw: Draws, streams: Any) -> dict[str, Any]:
        """Return amplitude and phase, [T]."""
        return {
            "amplitude": draw.uniform(streams, 1, 0.1, 5.0)[:, 0],
            "phase": draw.uniform(streams, 1, 0.0, math.pi, first=1)[:, 0],
        }

    def value(self, draw: Draws, drawn: Mapping[str, Any], x: Any) -> Any:
        """Return a·sin(x - p), [T, n]."""
        return drawn["amplitude"][:, None] * draw.sin(x - drawn["phase"][:, None])


class Sums(FunctionSource):
    """y = Σₖ aₖ·sin(k·ω·x + pₖ), k = 1 … components."""

    def __init__(self, device: Device, components: int, noise: float) -> None:
        super().__init__(device, ("harmonics", components), -4.0, 4.0, noise)
        self.components = components

    def parameters(self, draw: Draws, streams: Any) -> dict[str, Any]:
        """Return frequency [T], phase and amplitude [T, components]."""
        count = self.components
        return {
            "frequency": draw.uniform(streams, 1, 0.5, 1.5)[:, 0],
            "phase": draw.uniform(streams, count, 0.0, 2 * math.pi, first=1),
            "amplitude": draw.uniform(streams, count, 0.5, 2.0, first=1 + count) / draw.counting(count),
        }

    def value(self, draw: Draws, drawn: Mapping[str, Any], x: Any) -> Any:
        """Return the sum of the sines, [T, n]."""
        speed = drawn["frequency"][:, None] * draw.counting(self.components)
        angle = x[..., None] * speed[:, None] + drawn["phase"][:, None]
        return (drawn["amplitude"][:, None] * draw.sin(angle)).sum(-1)
