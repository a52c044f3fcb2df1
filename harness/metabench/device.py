"""The device that a worker computes on, and the ranks that it shares the work with.

`Device` as it stands is one process on the CPU; backends derive from it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

import psutil
import torch
from torch import Tensor



class Device:
    """Where tensors live (`torch`), their float type (`dtype`), this process's `rank` and the `world_size`."""

    def __init__(self, torch_device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.torch = torch.device(torch_device)
        self.dtype = dtype
        self.rank = 0
        self.world_size = 1

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the ranks and frees the device."""

    def synchronize(self) -> None:
        """Waits until everything queued on the device has run."""

    def clock(self) -> float:
        """Seconds of a monotonic clock, read when everything queued on the device has run."""
        self.synchronize()
        return time.perf_counter()

    def numerics(self) -> AbstractContextManager[Any]:
        """The context in which the learner computes (autocast, for a backend that offers bf16)."""
        return nullcontext()

    def average_gradients(self, parameters: Sequence[Tensor], weight: float) -> None:
        """Replaces each `.grad` by the weighted sum over ranks; the weights of all ranks add up to 1."""

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Each rank's values, in the order of the ranks, on every rank."""
        return [list(values)]

    def slowest(self, seconds: float) -> float:
        """The largest of all ranks' `seconds`, on every rank."""
        return max(each[0] for each in self.gather([seconds]))

    def agree(self, flag: bool) -> bool:
        """Rank 0's `flag`, on every rank, so that all of them take the same turn."""
        return bool(self.gather([float(flag)])[0][0])

    def peak_memory(self) -> dict[str, float]:
        """Peak bytes of this rank: "host" (resident), and "device" where the device has its own memory."""
        return {"host": float(_peak_resident_bytes())}

    def energy(self) -> dict[str, float]:
        """Joules so far, by the name of the meter; empty where no meter can be read."""
        return {}

    def condition(self) -> dict[str, Any]:
        """Clocks, throttle reasons and other processes on the device, as far as they can be read."""
        return {}

    def environment(self) -> dict[str, Any]:
        """What a reader must know of this device: its name, driver, threads, number format."""
        return {"device": str(self.torch), "dtype": str(self.dtype).removeprefix("torch."),
                "threads": torch.get_num_threads()}  # fmt: skip


def _peak_resident_bytes() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if psutil.MACOS else peak * 1024  # bytes on macOS, KiB elsewhere


