"""An NVIDIA GPU as a device: its clock, memory, meters and facts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from metabench.device import Device
from metabench.device.meters import Nvml, family
from metabench.device.ranks import Ranks
from metabench_plugins.backends._gpus import driver_version
from metabench_plugins.backends._numerics import Numerics


class CudaDevice(Device):
    """One NVIDIA GPU, alone or as one of several ranks.

    Its clock waits for the GPU and reads the host's: a wait costs microseconds, blocks of steps take
    milliseconds and more, and CUDA events would agree with it to half a microsecond.
    """

    def __init__(
        self, index: int, numerics: Numerics, ranks: Ranks | None = None, facts: dict[str, Any] | None = None
    ) -> None:
        super().__init__(
            f"cuda:{index}", numerics.dtype, ranks=ranks, autocast=numerics.autocast, facts=facts
        )
        torch.cuda.set_device(self.torch)
        self._properties = torch.cuda.get_device_properties(self.torch)
        self._nvml = Nvml(f"GPU-{self._properties.uuid}")
        # of the ranks that share a GPU, one reads its meter
        self._metered = self.local_rank == index or ranks is None

    def synchronize(self) -> None:
        """Wait until every kernel queued on the GPU has run."""
        torch.cuda.synchronize(self.torch)

    def moment(self) -> Any:
        """Return an event in the GPU's queue; it happens when all work queued before it has run."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch does not type it
        event.record()
        return event

    def seconds_between(self, moments: Sequence[Any]) -> list[float]:
        """Return the seconds from each event to the next one, on the GPU's own clock."""
        self.synchronize()
        return [earlier.elapsed_time(later) / 1e3 for earlier, later in pairwise(moments)]

    def peak_memory(self) -> dict[str, float]:
        """Return the peak bytes: "host"; "device" in tensors; "device_reserved" by the allocator."""
        return super().peak_memory() | {
            "device": float(torch.cuda.max_memory_allocated(self.torch)),
            "device_reserved": float(torch.cuda.max_memory_reserved(self.torch)),
        }

    def forget_peak_memory(self) -> None:
        """Reset the peaks of the GPU's memory to what is allocated now."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.torch)

    def energy(self) -> dict[str, float]:
        """Return the joules of the processor's meters and of the GPU's board, where they can be read."""
        return super().energy() | (self._nvml.joules() if self._metered else {})

    def condition(self) -> dict[str, Any]:
        """Return the host's condition, and the GPU's clocks, temperature, throttling and other processes."""
        own = {process.pid for process in family()}
        return super().condition() | self._nvml.read(own)

    def environment(self) -> dict[str, Any]:
        """Describe the host, and the GPU's name, capability, memory and software."""
        cudnn: Any = torch.backends.cudnn  # torch declares no types for it
        return super().environment() | {
            "gpu": self._properties.name,
            "gpu_memory_bytes": self._properties.total_memory,
            "gpu_capability": f"{self._properties.major}.{self._properties.minor}",
            "gpus": torch.cuda.device_count(),
            "driver": self._nvml.driver() or driver_version(),
            "cuda": torch.version.cuda,
            "cudnn": cudnn.version(),
        }


def limit_memory(index: int, gib: float) -> None:
    """Limit torch to `gib` GiB of this GPU; an allocation beyond the limit raises OutOfMemoryError."""
    total = torch.cuda.get_device_properties(index).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / total), index)
