"""The device that a worker computes on, and its exchange with the other ranks of the cell.

`Device` itself computes on the CPU, alone or as a rank of several; other backends derive from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from time import perf_counter  # as it is now: a learner that replaces it later changes no time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metabench.device.memory import peak_resident_bytes
from metabench.device.meters import CpuShare, Rapl
from metabench.device.products import split_products
from metabench.errors import CellEnd

if TYPE_CHECKING:
    from metabench.device.ranks import Ranks


class Device:
    """Where tensors live (`torch`), their float type (`dtype`), this process's `rank` and the `world_size`.

    ranks: the ranks that share the work, None for one process alone; autocast: the type that products are
    computed in under `numerics()`, None for `dtype`; facts: further entries of `environment`.
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
        # RAPL measures a whole machine: one rank reads it
        self._rapl = Rapl() if self.local_rank == 0 else None

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(None if isinstance(error, CellEnd) else error)

    def close(self, error: BaseException | None = None) -> None:
        """Leave the ranks and free the device; error: what this rank failed with, None where it succeeded."""
        if self.ranks is not None:
            self.ranks.close(error)

    def synchronize(self) -> None:
        """Wait until everything queued on the device has run."""

    def clock(self) -> float:
        """Return the seconds of a monotonic clock, read when everything queued on the device has run."""
        self.synchronize()
        return perf_counter()

    def moment(self) -> Any:
        """Return a moment in the device's queue of work, without waiting for it; see `seconds_between`."""
        return perf_counter()

    def seconds_between(self, moments: Sequence[Any]) -> list[float]:
        """Return the seconds from each moment to the next one, once the last one has happened."""
        return [later - earlier for earlier, later in pairwise(moments)]

    def numerics(self) -> AbstractContextManager[Any]:
        """Return the context in which the learner computes: autocast for a backend of that precision.

        Autocast caches no converted weights: it would keep the first ones until this context is left, so that
        a learner which trains in it would keep computing with its initial weights.
        """
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(self.torch.type, dtype=self._autocast, cache_enabled=False)

    def average_gradients(self, parameters: Sequence[Tensor], weight: float) -> None:
        """Replace each `.grad` by the weighted sum over ranks; the weights of all ranks add up to 1."""
        if self.ranks is not None:
            self.ranks.average_gradients(parameters, weight)

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Return each rank's values, in the order of the ranks, on every rank."""
        if self.ranks is None:
            return [[float(value) for value in values]]
        return self.ranks.gather(values)

    def slowest(self, seconds: float) -> float:
        """Return the largest of all ranks' `seconds`, on every rank."""
        return seconds if self.ranks is None else self.ranks.slowest(seconds)

    def agree(self, flag: bool) -> bool:
        """Return rank 0's `flag` on every rank, so that all of them take the same branch."""
        return flag if self.ranks is None else self.ranks.agree(flag)

    def peak_memory(self) -> dict[str, float]:
        """Return this rank's peak bytes: "host" (resident), and "device" if the device has its own memory."""
        return {"host": float(peak_resident_bytes())}

    def forget_peak_memory(self) -> None:
        """Reset the peak of the device's own memory; the peak of the host's remains."""

    def energy(self) -> dict[str, float]:
        """Return the joules since the device was opened, by meter; empty where no meter can be read."""
        return self._rapl.joules() if self._rapl else {}

    def condition(self) -> dict[str, Any]:
        """Return the clocks, the load, throttle reasons, and the load of other processes since the last call.

        "cpu_mhz": mean clock of the cores; "load_1min": the system's load average; "others_cores": cores
        that other processes kept busy; "stolen_cores": CPU steal, in cores; both are means since the last
        call. A figure that cannot be read is absent.
        """
        return self._share.read()

    def environment(self) -> dict[str, Any]:
        """Describe this device: its name, threads, number format and switches of numerics."""
        cudnn: Any = torch.backends.cudnn  # torch declares no types for it
        description = {
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
            description["ranks"] = self.world_size
            description["communication"] = self.ranks.backend
        return description | self._facts


def _float32_products() -> dict[str, str]:
    """How each library computes float32 products, by "library.operation": "ieee" (in full), "tf32" or "bf16".

    "none" leaves it to the library's default. "metabench.convolutions": "tf32x3" where the engine's kernels
    compute so; else as "cuda.matmul".
    """
    cudnn: Any = torch.backends.cudnn  # torch declares no types for its switches
    mkldnn: Any = torch.backends.mkldnn
    own = {"metabench.convolutions": "tf32x3"} if split_products() else {}
    return {
        **own,
        "cuda.matmul": str(torch.backends.cuda.matmul.fp32_precision),
        "cudnn.conv": str(cudnn.conv.fp32_precision),
        "mkldnn.matmul": str(mkldnn.matmul.fp32_precision),
        "mkldnn.conv": str(mkldnn.conv.fp32_precision),
    }
