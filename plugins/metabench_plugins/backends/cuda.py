"""One NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from metabench import Backend, setting
from metabench_plugins.backends._cores import thread_environment
from metabench_plugins.backends._gpus import (
    PRECISION_HELP,
    PRECISIONS,
    cuda_environment,
    why_no_gpus,
    why_not_precision,
)

if TYPE_CHECKING:
    from metabench.device import Device


@dataclass(frozen=True, kw_only=True)
class Cuda(Backend):
    """One NVIDIA GPU."""

    name: ClassVar[str] = "cuda"
    index: int = setting(0, "number of the GPU among those that CUDA_VISIBLE_DEVICES leaves", at_least=0)
    threads: int = setting(1, "threads of the host", at_least=1)
    precision: str = setting("float32", PRECISION_HELP, choices=PRECISIONS)
    deterministic: bool = setting(False, "only operations that repeat bit by bit")
    memory_gib: float = setting(0.0, "GiB of its memory that the cell may use (0: all)", at_least=0)

    @property
    def gpus(self) -> int:
        """As many as the index implies."""
        return self.index + 1

    def available(self) -> str | None:
        """Return why there is no such GPU, or None."""
        return why_no_gpus(self.index + 1) or why_not_precision(self.precision)

    def command(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Return the same command, with the variables for the host's threads and for CUDA."""
        return list(argv), thread_environment(self.threads) | cuda_environment(self.deterministic)

    def open(self) -> Device:
        """Select the GPU, set the number format and limit the memory."""
        import torch

        from metabench_plugins.backends._cuda_device import CudaDevice, limit_memory
        from metabench_plugins.backends._numerics import set_numerics

        torch.set_num_threads(self.threads)
        facts = {
            "backend": self.name,
            "precision": self.precision,
            "deterministic": self.deterministic,
            "memory_limit_gib": self.memory_gib or None,
        }
        device = CudaDevice(self.index, set_numerics(self.precision, self.deterministic), facts=facts)
        if self.memory_gib:
            limit_memory(self.index, self.memory_gib)
        return device
