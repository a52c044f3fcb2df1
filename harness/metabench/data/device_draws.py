"""The draws of `metabench.data.draws`, computed on the device itself.

Words, uniform numbers and orders equal those of the host bit for bit: they need integers modulo 2**64 and one
exact product and sum. Normal numbers and sines are equal to 2 units in the last place. Words are kept as
int64 of the same bits, since torch shifts and multiplies no unsigned integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from metabench.data import draws
from metabench.data.staging import to_device

_G, _M1, _M2 = (
    n - 2**64 for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)  # as signed integers
_NO_FLOAT64 = ("mps",)


class Draws(Protocol):
    """Numbers by counter, as numpy arrays on the host or as tensors on a device."""

    def streams(self, key: int, numbers: Sequence[int], parts: int = 1) -> Any:
        """Return `draws.streams`."""

    def uniform(self, streams: Any, count: int, low: float = 0.0, high: float = 1.0, first: int = 0) -> Any:
        """Return `draws.uniform`."""

    def normal(self, streams: Any, count: int, first: int = 0) -> Any:
        """Return `draws.normal`."""

    def numbers(self, numbers: Sequence[int]) -> Any:
        """Return the numbers as int64, [n]."""

    def counting(self, count: int) -> Any:
        """Return 1, 2, …, count."""

    def sin(self, values: Any) -> Any:
        """Return the sine of each value."""


class HostDraws:
    """Draws as numpy arrays."""

    streams = staticmethod(draws.streams)
    uniform = staticmethod(draws.uniform)
    normal = staticmethod(draws.normal)
    sin = staticmethod(np.sin)

    def numbers(self, numbers: Sequence[int]) -> Any:
        """Return the numbers as int64, [n]."""
        return np.asarray(numbers, dtype=np.int64)

    def counting(self, count: int) -> Any:
        """Return 1, 2, …, count."""
        return np.arange(1, count + 1)


class DeviceDraws:
    """Draws as tensors on a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def streams(self, key: int, numbers: Sequence[int], parts: int = 1) -> Tensor:
        """Return one stream for each number, [n]; with `parts` > 1 that many, [n, parts]."""
        base = _mix((self.numbers(numbers) + 1) * _G + _signed(key))
        return base if parts == 1 else self.words(base, parts)

    def numbers(self, numbers: Sequence[int]) -> Tensor:
        """Return the numbers, [n]; those of a range are counted on the device."""
        if isinstance(numbers, range):
            return torch.arange(numbers.start, numbers.stop, numbers.step, device=self.device)
        return to_device([np.asarray(numbers, dtype=np.int64).reshape(-1)], self.device)[0]

    def words(self, streams: Tensor, count: int, first: int = 0) -> Tensor:
        """Return words number `first` to `first + count - 1` of each stream: [*streams, count]."""
        steps = torch.arange(first + 1, first + count + 1, device=self.device) * _G
        return _mix(streams[..., None] + steps)

    def uniform(
        self, streams: Tensor, count: int, low: float = 0.0, high: float = 1.0, first: int = 0
    ) -> Tensor:
        """Return float64 in [low, high) with 53 random bits: [*streams, count]."""
        whole = _shifted(self.words(streams, count, first), 11).double()
        return whole * (2.0**-53 * (high - low)) + low

    def normal(self, streams: Tensor, count: int, first: int = 0) -> Tensor:
        """Return standard normal float64: [*streams, count]."""
        pair = self.uniform(streams, 2 * count, first=2 * first)
        return torch.sqrt(-2.0 * torch.log1p(-pair[..., 0::2])) * torch.cos(2.0 * math.pi * pair[..., 1::2])

    def order(self, streams: Tensor, count: int, first: int = 0) -> Tensor:
        """Return the order of `count` words of each stream as unsigned integers: [*streams, count]."""
        unsigned = self.words(streams, count, first) ^ -(2**63)
        return unsigned.argsort(dim=-1, stable=True)

    def counting(self, count: int) -> Tensor:
        """Return 1, 2, …, count."""
        return torch.arange(1, count + 1, device=self.device)

    def sin(self, values: Tensor) -> Tensor:
        """Return the sine of each value."""
        return values.sin()


def draws_there(device: torch.device) -> bool:
    """Return whether a device draws numbers itself: it is no CPU, and has float64."""
    return device.type not in ("cpu", *_NO_FLOAT64)


def draws_of(device: torch.device) -> Draws:
    """Return the draws of a device: its own, or the host's."""
    return DeviceDraws(device) if draws_there(device) else HostDraws()


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Return z >> bits with zeros from the left."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _M1
    z = (z ^ _shifted(z, 27)) * _M2
    return z ^ _shifted(z, 31)
