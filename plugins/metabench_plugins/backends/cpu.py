"""One process on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from metabench import Backend, setting
from metabench.device.host import usable_cores
from metabench_plugins.backends._cores import affinity_problem, bind, thread_environment

if TYPE_CHECKING:
    from metabench.device import Device


@dataclass(frozen=True, kw_only=True)
class Cpu(Backend):
    """One process on the CPU."""

    name: ClassVar[str] = "cpu"
    threads: int = setting(0, "threads of one operation (0: one per physical core)", at_least=0)
    affinity: tuple[int, ...] = setting((), "numbers of the cores to stay on (none: any)", at_least=0)
    precision: str = setting("float32", "number format", choices=("float32", "float64", "bf16"))
    deterministic: bool = setting(False, "only operations that repeat bit by bit")
    memory_gib: float = setting(
        0.0, "GiB that the cell may use beyond Python and torch themselves (0: no limit; Linux)", at_least=0
    )

    def available(self) -> str | None:
        """Return why this machine cannot satisfy a setting, or None."""
        if self.memory_gib and sys.platform != "linux":
            return "'memory_gib' needs Linux: this system does not limit a process's memory"
        return affinity_problem(self.affinity)

    def command(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Return the same command, with the variables that set its threads."""
        return list(argv), thread_environment(self._threads())

    def open(self) -> Device:
        """Bind the process, set threads and number format, and limit the memory."""
        bind(self.affinity)
        import torch

        from metabench.device import Device
        from metabench_plugins.backends._numerics import set_numerics

        torch.set_num_threads(self._threads())
        numerics = set_numerics(self.precision, self.deterministic)
        if self.memory_gib:
            limit_memory(self.memory_gib)
        return Device(
            dtype=numerics.dtype,
            autocast=numerics.autocast,
            facts={
                "backend": self.name,
                "precision": self.precision,
                "deterministic": self.deterministic,
                "affinity": list(self.affinity),
                "memory_limit_gib": self.memory_gib or None,
            },
        )

    def _threads(self) -> int:
        return self.threads or len(self.affinity) or usable_cores()


def limit_memory(gib: float) -> None:
    """Let this process allocate `gib` GiB more than it has; an allocation beyond the limit raises.

    The limit is on data (RLIMIT_DATA), the memory that the process may write to: torch maps many GiB of
    libraries and address space that it never uses, so that a limit on address space would mean nothing.
    """
    import resource  # absent on Windows

    import torch

    # Memory that every cell needs is allocated first: the pool of threads (without memory for their stacks
    # the process would be aborted), and the modules that torch imports with the first optimizer.
    torch.ones(1 << 20).add_(1)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    status = Path("/proc/self/status").read_text()
    used_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData:"))
    limit = used_kib * 1024 + int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
