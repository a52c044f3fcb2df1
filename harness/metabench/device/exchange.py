"""What ranks exchange beside plain numbers: JSON values, and figures by name. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metabench.device.device import Device

Figures = Mapping[str, float]


def of_ranks(device: Device, told: Any) -> list[Any]:
    """Each rank's plain JSON value, in the order of the ranks, on every rank."""
    return [json.loads(bytes(map(int, rank))) for rank in device.gather(list(json.dumps(told).encode()))]


def summed(device: Device, own: Figures) -> dict[str, float]:
    """The sum of each figure over the ranks that have it, on every rank."""
    total: dict[str, float] = {}
    for rank in of_ranks(device, dict(own)):
        for name, value in rank.items():
            total[name] = total.get(name, 0.0) + value
    return total


class Joules:
    """This rank's energy by meter between `resume` and `pause`, as often as these are called.

    A meter that could not be read at one of those moments is left out for good.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._before: Figures = {}
        self.used: dict[str, float] | None = None

    def resume(self) -> None:
        """Starts to count."""
        self._before = self._device.energy()

    def pause(self) -> None:
        """Stops to count."""
        now = self._device.energy()
        spent = {name: now[name] - start for name, start in self._before.items() if name in now}
        before = self.used
        if before is None:
            self.used = spent
        else:
            self.used = {name: before[name] + more for name, more in spent.items() if name in before}

    def summed(self) -> dict[str, float]:
        """The joules so far, summed over ranks."""
        return summed(self._device, self.used or {})
