"""Move numbers from the host to the device without making the host wait.

A copy from ordinary memory to a GPU stops the host until the GPU has run everything queued before it. A copy
from pinned memory is queued like any other work, and torch keeps that memory until the copy has happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def to_device(arrays: Sequence[np.ndarray[Any, Any]], device: torch.device) -> list[Tensor]:
    """Return arrays of one type as tensors on the device, by one queued copy of them all.

    On a CPU each tensor shares memory with its array where that is contiguous.
    """
    if device.type == "cpu":
        return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    sizes = [array.size for array in arrays]
    flat = empty_on_host((sum(sizes),), torch.from_numpy(arrays[0][:0]).dtype, device)
    for part, array in zip(torch.split(flat, sizes), arrays, strict=True):
        part.copy_(torch.from_numpy(np.ascontiguousarray(array)).flatten())
    parts = torch.split(flat.to(device, non_blocking=True), sizes)
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


def empty_on_host(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return an uninitialised tensor in memory of the host, pinned where `device` is a GPU."""
    return torch.empty(*shape, dtype=dtype, pin_memory=device.type == "cuda")
