"""The energy of a cell: joules by meter, of all ranks."""

from __future__ import annotations

from collections.abc import Mapping

from metabench.device.device import Device
from metabench.device.exchange import sum_over_ranks


class EnergyClock:
    """This rank's energy by meter between `resume` and `pause`, as often as these are called.

    A meter that could not be read at one of those moments is left out for good. so_far: the joules of all
    ranks before an interruption; None where there was none.
    """

    def __init__(self, device: Device, so_far: Mapping[str, float] | None = None) -> None:
        self._device = device
        self._so_far = so_far
        self._at_resume: Mapping[str, float] = {}
        self._used: dict[str, float] | None = None
        self._running = False

    def resume(self) -> None:
        """Start to count."""
        self._at_resume = self._device.energy()
        self._running = True

    def pause(self) -> None:
        """Stop to count; where it has stopped, do nothing."""
        if not self._running:
            return
        self._running = False
        now = self._device.energy()
        joules = {meter: now[meter] - start for meter, start in self._at_resume.items() if meter in now}
        if self._used is None:
            self._used = joules
        else:
            self._used = {
                name: self._used[name] + more for name, more in joules.items() if name in self._used
            }

    def joules(self) -> dict[str, float]:
        """The joules so far by meter, summed over ranks, up to the last pause."""
        return self._with_earlier(sum_over_ranks(self._device, self._used or {}))

    def own_joules(self) -> dict[str, float]:
        """The joules until now without asking other ranks; empty where there are any."""
        if self._device.world_size > 1:
            return {}
        now, used = self._device.energy(), self._used or {}
        if self._running:
            running = {m: now[m] - start for m, start in self._at_resume.items() if m in now}
            used = {meter: used.get(meter, 0.0) + more for meter, more in running.items()}
        return self._with_earlier(used)

    def _with_earlier(self, joules: Mapping[str, float]) -> dict[str, float]:
        if self._so_far is None:
            return dict(joules)
        earlier = self._so_far
        return {meter: earlier[meter] + more for meter, more in joules.items() if meter in earlier}
