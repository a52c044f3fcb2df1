"""The device that a worker computes on, and the ranks that it shares the work with.

`Device` as it stands computes on the CPU, alone or as one of several ranks; other backends derive from it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metabench.device.memory import peak_resident_bytes
from metabench.device.meters import CpuShare, Rapl
from metabench.errors import CellEnd

if TYPE_CHECKING:
    from metabench.device.ranks import Ranks


class Device:
    """Where tensors live (`torch`), their float type (`dtype`), this process's `rank` and the `world_size`.

    ranks: the ranks that share the work, None for one process alone; autocast: the type that products are
    computed in under `numerics()`, None for `dtype`; facts: what `environment` tells beside its own.
    """

    def __init__(
        self,
        torch_device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        ranks: Ranks | None = None,
        autocast: torch.dtype | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.torch = torch.device(torch_device)
        self.dtype = dtype
        self.ranks = ranks
        self.rank = ranks.rank if ranks else 0
        self.local_rank = ranks.local_rank if ranks else 0
        self.world_size = ranks.world_size if ranks else 1
        self._autocast = autocast
        self._facts = dict(facts or {})
        self._share = CpuShare(family=ranks is not None)
        self._rapl = Rapl() if self.local_rank == 0 else None  # it meters a whole machine: one rank reads it

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(None if isinstance(error, CellEnd) else error)

    def close(self, error: BaseException | None = None) -> None:
        """Leaves the ranks and frees the device; error: what ended this rank, where it did not end well."""
        if self.ranks is not None:
            self.ranks.close(error)

    def synchronize(self) -> None:
        """Waits until everything queued on the device has run."""

    def clock(self) -> float:
        """Seconds of a monotonic clock, read when everything queued on the device has run."""
        self.synchronize()
        return time.perf_counter()

    def moment(self) -> Any:
        """A moment in the device's queue of work, noted without waiting; see `seconds_between`."""
        return time.perf_counter()

    def seconds_between(self, moments: Sequence[Any]) -> list[float]:
        """Seconds from each moment to the next one, when everything queued before the last has run."""
        return [later - earlier for earlier, later in pairwise(moments)]

    def numerics(self) -> AbstractContextManager[Any]:
        """The context in which the learner computes: autocast for a backend of that precision.

        Autocast keeps no copies of the weights: it would keep the first ones until this context is left, so
        that a learner which trains in it would go on with the weights that it started from.
        """
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(self.torch.type, dtype=self._autocast, cache_enabled=False)

    def average_gradients(self, parameters: Sequence[Tensor], weight: float) -> None:
        """Replaces each `.grad` by the weighted sum over ranks; the weights of all ranks add up to 1."""
        if self.ranks is not None:
            self.ranks.average_gradients(parameters, weight)

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Each rank's values, in the order of the ranks, on every rank."""
        if self.ranks is None:
            return [[float(value) for value in values]]
        return self.ranks.gather(values)

    def slowest(self, seconds: float) -> float:
        """The largest of all ranks' `seconds`, on every rank."""
        return seconds if self.ranks is None else self.ranks.slowest(seconds)

    def agree(self, flag: bool) -> bool:
        """Rank 0's `flag`, on every rank, so that all of them take the same turn."""
        return flag if self.ranks is None else self.ranks.agree(flag)

    def peak_memory(self) -> dict[str, float]:
        """Peak bytes of this rank: "host" (resident), and "device" where the device has its own memory."""
        return {"host": float(peak_resident_bytes())}

    def forget_peak_memory(self) -> None:
        """Lets `peak_memory` count the device's own memory from here on; the host's is counted throughout."""

    def energy(self) -> dict[str, float]:
        """Joules since the device was opened, by the name of the meter; empty where none can be read."""
        return self._rapl.joules() if self._rapl else {}

    def condition(self) -> dict[str, Any]:
        """Clocks, load, throttle reasons and what other processes took since the call before.

        "cpu_mhz": mean clock of the cores; "load_1min": the system's load average; "others_cores": cores
        that other processes kept busy, "stolen_cores": cores that the hypervisor gave to others, both as
        means since the call before this one. A figure that cannot be read is absent.
        """
        return self._share.look()

    def environment(self) -> dict[str, Any]:
        """What a reader must know of this device: its name, driver, threads, number format, switches."""
        cudnn: Any = torch.backends.cudnn  # torch declares no types for it
        told = {
            "device": str(self.torch),
            "dtype": str(self.dtype).removeprefix("torch."),
            "autocast": str(self._autocast).removeprefix("torch.") if self._autocast else None,
            "threads": torch.get_num_threads(),
            "interop_threads": torch.get_num_interop_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "float32_products": _float32_products(),
            "cudnn_benchmark": cudnn.benchmark,
            "energy_meters": sorted(self.energy()),
        }
        if self.ranks is not None:
            told["ranks"] = self.world_size
            told["communication"] = self.ranks.backend
        return told | self._facts


def _float32_products() -> dict[str, str]:
    """How each library computes float32 products, by "library.operation": "ieee" (in full), "tf32" or "bf16".

    "none" leaves it to the library's default.
    """
    cudnn: Any = torch.backends.cudnn  # torch declares no types for its switches
    mkldnn: Any = torch.backends.mkldnn
    return {
        "cuda.matmul": str(torch.backends.cuda.matmul.fp32_precision),
        "cudnn.conv": str(cudnn.conv.fp32_precision),
        "mkldnn.matmul": str(mkldnn.matmul.fp32_precision),
        "mkldnn.conv": str(mkldnn.conv.fp32_precision),
    }
