"""Reuse the memory of meta-batches once nothing refers to it.

A meta-batch of megabytes that is freed goes back to the system, and its successor costs a page fault for
each 4 KiB: more than drawing, gathering and normalising it. An array here backs a tensor; torch holds a
reference to the array for as long as any tensor, view or autograd graph uses it, so an array that is
referred to by this pool alone is free.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

KEPT = 4  # arrays of one size: the batch at hand, its successor, and two that a learner may keep
SIZES = 8  # sizes kept at once; a run has one or two


class Buffers:
    """A pool of uninitialised tensors on the host."""

    def __init__(self) -> None:
        self._kept: dict[Any, list[np.ndarray[Any, Any]]] = {}
        self._lock = threading.Lock()
        self._free = _references([np.empty(0)], 0)  # references to a free array; differs between Pythons

    def take(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return a tensor of this shape and type (float32, float64 or uint8) that shares memory with none."""
        with self._lock:  # between finding an array free and referring to it
            return self._take((tuple(shape), dtype))

    def _take(self, key: tuple[tuple[int, ...], torch.dtype]) -> Tensor:
        shape, dtype = key
        kept = self._kept.setdefault(key, [])
        for place in range(len(kept)):
            if _references(kept, place) == self._free:
                return torch.from_numpy(kept[place])
        while len(self._kept) > SIZES:
            del self._kept[next(iter(self._kept))]
        if len(kept) == KEPT:
            return torch.empty(*shape, dtype=dtype)
        kept.append(np.empty(shape, dtype=str(dtype).removeprefix("torch.")))
        return torch.from_numpy(kept[-1])


def _references(arrays: list[np.ndarray[Any, Any]], place: int) -> int:
    return sys.getrefcount(arrays[place])
